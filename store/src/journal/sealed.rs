//! What is kept for sealed channels as SQL, inside the caller's transaction. The rules are those of the directory: which
//! removals are due is no row, since it follows from who is a member.

use conclave_core::record::{ChannelId, MachineId, Record, UserId};
use rusqlite::{Connection, Params, Result, params};

use super::int;

/// Applies a record about sealed channels. Of other records it does what they end here: to be called before them.
pub(super) fn apply(connection: &Connection, record: &Record) -> Result<()> {
    match record {
        Record::GroupCreated { channel, group, epoch, info, last } => run(
            connection,
            "INSERT INTO groups (channel, suite, group_id, epoch, info, commit_user, commit_id, commit_seq, commit_ts)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS (SELECT 1 FROM channels WHERE id = ?1)",
            params![
                int(channel.0),
                group.suite,
                &group.id()[..],
                int(*epoch),
                &info[..],
                last.map(|last| int(last.user.0)),
                last.map(|last| last.id.0),
                last.map(|last| int(last.stamp.seq)),
                last.map(|last| last.stamp.ts.0),
            ],
        ),
        Record::GroupAdvanced { channel, epoch, info, last } => run(
            connection,
            "UPDATE groups SET epoch = ?2, info = ?3, commit_user = ?4, commit_id = ?5, commit_seq = ?6, commit_ts = ?7
             WHERE channel = ?1",
            params![
                int(channel.0),
                int(*epoch),
                &info[..],
                int(last.user.0),
                last.id.0,
                int(last.stamp.seq),
                last.stamp.ts.0
            ],
        ),
        Record::GroupJoined { channel, user, machine } => run(
            connection,
            "INSERT OR REPLACE INTO group_machines (channel, machine, user)
             SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM groups WHERE channel = ?1)",
            [int(channel.0), int(machine.0), int(user.0)],
        ),
        Record::GroupLeft { channel, machine } => {
            run(
                connection,
                "DELETE FROM group_machines WHERE channel = ?1 AND machine = ?2",
                [int(channel.0), int(machine.0)],
            )?;
            drop_welcome(connection, *channel, *machine)
        }
        Record::WelcomeKept { channel, user, machine, epoch, welcome } => run(
            connection,
            "INSERT OR REPLACE INTO welcomes (channel, machine, user, epoch, welcome)
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM groups WHERE channel = ?1)",
            params![int(channel.0), int(machine.0), int(user.0), int(*epoch), &welcome[..]],
        ),
        Record::WelcomeDropped { channel, machine } => drop_welcome(connection, *channel, *machine),
        Record::KeyPackagePut { user, machine, package, last_resort } => {
            if *last_resort {
                run(
                    connection,
                    "DELETE FROM key_packages WHERE machine = ?1 AND last_resort = 1",
                    [int(machine.0)],
                )?;
            }
            run(
                connection,
                "INSERT INTO key_packages (machine, user, last_resort, package) SELECT ?1, ?2, ?3, ?4
                 WHERE EXISTS (SELECT 1 FROM machines WHERE id = ?1 AND user = ?2)",
                params![int(machine.0), int(user.0), last_resort, &package[..]],
            )
        }
        Record::KeyPackageTaken { machine, .. } => run(
            connection,
            "DELETE FROM key_packages WHERE id =
                 (SELECT min(id) FROM key_packages WHERE machine = ?1 AND last_resort = 0)",
            [int(machine.0)],
        ),
        Record::RosterExtended { user, entry } => run(
            connection,
            "INSERT INTO roster_entries (user, entry, signature) SELECT ?1, ?2, ?3
             WHERE EXISTS (SELECT 1 FROM users WHERE id = ?1)",
            params![int(user.0), &entry.entry[..], &entry.signature[..]],
        ),
        Record::MemberRemoved { channel, user } => run(
            connection,
            "DELETE FROM welcomes WHERE channel = ?1 AND user = ?2",
            [int(channel.0), int(user.0)],
        ),
        Record::MachineRemoved { user, machine } => forget_machine(connection, *user, *machine),
        Record::UserRemoved { user } => {
            for sql in [
                "DELETE FROM welcomes WHERE user = ?1",
                "DELETE FROM key_packages WHERE user = ?1",
                "DELETE FROM roster_entries WHERE user = ?1",
            ] {
                run(connection, sql, [int(user.0)])?;
            }
            Ok(())
        }
        Record::ChannelDeleted { channel } => {
            for sql in [
                "DELETE FROM groups WHERE channel = ?1",
                "DELETE FROM group_machines WHERE channel = ?1",
                "DELETE FROM welcomes WHERE channel = ?1",
            ] {
                run(connection, sql, [int(channel.0)])?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn drop_welcome(connection: &Connection, channel: ChannelId, machine: MachineId) -> Result<()> {
    run(
        connection,
        "DELETE FROM welcomes WHERE channel = ?1 AND machine = ?2",
        [int(channel.0), int(machine.0)],
    )
}

fn forget_machine(connection: &Connection, user: UserId, machine: MachineId) -> Result<()> {
    for sql in [
        "DELETE FROM welcomes WHERE user = ?1 AND machine = ?2",
        "DELETE FROM key_packages WHERE user = ?1 AND machine = ?2",
    ] {
        run(connection, sql, [int(user.0), int(machine.0)])?;
    }
    Ok(())
}

fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<()> {
    connection.prepare_cached(sql)?.execute(params).map(drop)
}
