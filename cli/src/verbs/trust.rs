//! Whether keys are the right ones: a server's, and those of other users' machines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use conclave_core::bridge::Bound;
use conclave_core::key::PublicKey;
use conclave_core::name::UserName;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::UserId;
use conclave_core::stream::{MachineKey, StreamCommand, StreamReply};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::KeyUse;
use conclave_store::config::{Change, Pin};
use conclave_store::state::{Pinned, State};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::args::{Trust, Verify};
use crate::confirm::agreed;
use crate::connect::{Connection, proven_key, unexpected};
use crate::{Context, Failure};

/// Shows the key that a server proves, and takes it in place of another if its user wants that.
pub(super) fn trust(trust: Trust, context: &Context) -> Result<(), Failure> {
    let url = context.server(trust.server())?;
    let found = proven_key(context, &url, &trust.net.dial)?;
    let config = context.config()?;
    let (pin, shown) = (config.pin(&url), fingerprint(&found));
    let value = |trusted: bool| {
        json!({
            "server": url.as_str(),
            "fingerprint": shown,
            "trusted_before": pin.map(|pin| fingerprint(&pin.server_key)),
            "trusted": trusted,
        })
    };
    let derived = match pin {
        Some(pin) if pin.server_key == found => {
            let text = format!("{url} proves the key that is trusted: {shown}");
            return context.output.result(text, value(true));
        }
        // Nothing is pinned for a server that this machine is not registered on.
        None if config.server(&url).is_none() => {
            return context.output.result(format_args!("{url} proves the key {shown}"), value(false));
        }
        None => false,
        Some(pin) => {
            context.output.note(format_args!("{url} proves another key than the one that is trusted."));
            context.output.note(format_args!("trusted so far: {}", fingerprint(&pin.server_key)));
            context.output.note(format_args!("proved now:     {shown}"));
            if !trust.yes {
                context.output.note("Go on only if the server's operator confirms the second one.");
                if !agreed(context) {
                    return Err(Failure::new(
                        "nothing was changed",
                        format!("answer yes, or type: conclave server trust {url} --yes"),
                    ));
                }
            }
            pin.derived
        }
    };
    // Positions and the keys of machines in state.db need nothing: they are kept under the server's key, so that those of
    // the old key are not used for the new one.
    let change = Change::SetPin(url.clone(), Pin { server_key: found, derived });
    context.config_file()?.change(&[change])?;
    context.output.result(format_args!("{url} is trusted with the key {shown}"), value(true))?;
    if derived {
        // This machine's key there is derived from the server's.
        context.output.note(format_args!(
            "this machine has another key there now: conclave register --server {url} --username NAME, or on a machine \
             of yours that is enrolled: conclave machine add"
        ));
    }
    Ok(())
}

/// Shows the number to be compared with another user, and the keys of that user's machines.
pub(super) fn verify(verify: Verify, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open_newest(context, &verify.net)?;
    let (Some(server), Some(own)) =
        (connection.server_key(), connection.session().map(|it| it.path().user.clone()))
    else {
        return Err(Failure::new(
            format!("{} tells no keys: it speaks version 1 of the protocol", connection.url),
            "ask its operator to update it",
        ));
    };
    let (_, ours) = keys(&mut connection, &own)?;
    let this = match connection.key_use() {
        KeyUse::PerServer => context.key()?.at_server(&server).public(),
        KeyUse::Shared => context.key()?.public(),
    };
    if !ours.iter().any(|it| it.key == this) {
        return Err(Failure::new(
            format!("{} does not tell this machine's own key to those who ask for it", connection.url),
            "do not trust what it says about keys; ask its operator",
        ));
    }
    let (user, theirs) = keys(&mut connection, &verify.user)?;
    let state = State::open(context.dir()?)?;
    let bound = Bound::User(verify.user.clone(), user);
    let means_another =
        |it: &Bound| matches!(it, Bound::User(name, _) if *name == verify.user) && *it != bound;
    let is_another = state.bindings(&server)?.iter().any(means_another);
    if is_another && verify.accept {
        state.unbind(&server, &bound)?;
        state.bind(&server, &bound)?;
    }
    let before = state.pinned(&server, user)?;
    let (mut items, mut changed) = (Vec::new(), Vec::new());
    for it in &theirs {
        let now = UnixMillis(Timestamp::now().as_millisecond());
        let is_changed = matches!(state.pin(&server, user, it.id, &it.key, now)?, Pinned::Changed { .. });
        if is_changed {
            changed.push(it.name.to_string());
        }
        let since = before.iter().find(|pinned| pinned.machine == it.id).map(|it| it.since.rfc3339());
        let key = match (&since, is_changed) {
            (_, true) => "CHANGED",
            (Some(_), false) => "known",
            (None, false) => "new",
        };
        items.push(json!({
            "machine": it.name.as_str(),
            "fingerprint": fingerprint(&it.key),
            "key": key,
            "since": since,
        }));
    }
    let number = number((&own, &ours), (&verify.user, &theirs));
    if context.output.is_json() {
        context.output.json(&json!({
            "server": connection.url.as_str(),
            "user": verify.user.as_str(),
            "number": number,
            "machines": items,
        }))?;
    } else {
        context.output.text(format_args!("number of {own} and {}: {number}", verify.user))?;
        context.output.list(&items, ["MACHINE", "FINGERPRINT", "KEY", "SINCE"], "no machines", |it| {
            ["machine", "fingerprint", "key", "since"].map(|key| it[key].as_str().unwrap_or("").to_owned())
        })?;
    }
    let name = &verify.user;
    if is_another && !verify.accept {
        return Err(Failure::new(
            format!("{name} is another user than the one whom this machine's approver {name} meant so far"),
            format!(
                "if that is right, after you compared the number: conclave verify {} --accept",
                shell_word(name.as_str())
            ),
        ));
    }
    if changed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} has another key than this machine knows for it", changed.join(", ")),
        format!(
            "a machine's key never changes: ask {} by other means, and trust no message of it",
            verify.user
        ),
    ))
}

fn keys(connection: &mut Connection<'_>, user: &UserName) -> Result<(UserId, Vec<MachineKey>), Failure> {
    match connection.request(&Command::Stream(StreamCommand::Keys { user: user.clone() }))? {
        Reply::Stream(StreamReply::Keys { user, machines }) => Ok((user, machines)),
        _ => Err(unexpected(&connection.url)),
    }
}

/// A key in a form that people compare, as SSH has it.
fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key.as_bytes())))
}

/// How often the number is hashed: who looks for keys that give the same number pays for each try.
const ROUNDS: usize = 1 << 16;

/// The number of two users, the same from both sides. docs/security.md says how it is made.
fn number(one: (&UserName, &[MachineKey]), other: (&UserName, &[MachineKey])) -> String {
    let mut sides = [one, other].map(|(name, machines)| {
        let mut keys: Vec<&[u8; 32]> = machines.iter().map(|it| it.key.as_bytes()).collect();
        keys.sort_unstable();
        let mut side = Sha256::new();
        side.update(b"safety number of conclave, one side\n");
        side.update((name.as_str().len() as u64).to_be_bytes());
        side.update(name.as_str());
        keys.into_iter().for_each(|key| side.update(key));
        <[u8; 32]>::from(side.finalize())
    });
    sides.sort_unstable();
    let mut hash = [0; 32];
    for _ in 0..ROUNDS {
        let mut round = Sha256::new();
        round.update(b"safety number of conclave\n");
        round.update(hash);
        sides.iter().for_each(|side| round.update(side));
        hash = round.finalize().into();
    }
    let groups = hash.chunks_exact(5).take(6).map(|chunk| {
        let value = chunk.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        format!("{:05}", value % 100_000)
    });
    groups.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::key::SecretKey;
    use conclave_core::name::MachineName;
    use conclave_core::record::MachineId;

    #[test]
    fn both_sides_see_one_number_and_any_other_key_gives_another() {
        let machine = |seed: u8| MachineKey {
            name: MachineName::new("m").unwrap(),
            id: MachineId(0),
            key: SecretKey::from_seed(&[seed; 32]).public(),
            added: UnixMillis(0),
        };
        let (ann, bea) = (UserName::new("ann").unwrap(), UserName::new("bea").unwrap());
        let (ours, theirs) = ([machine(1), machine(2)], [machine(3)]);
        let shown = number((&ann, &ours), (&bea, &theirs));
        assert_eq!(shown, number((&bea, &theirs), (&ann, &[machine(2), machine(1)])));
        assert_eq!(shown.split(' ').map(str::len).collect::<Vec<_>>(), [5; 6]);
        assert_ne!(shown, number((&ann, &ours), (&bea, &[machine(4)])));
        assert_ne!(shown, number((&ann, &ours[..1]), (&bea, &theirs)));
    }
}
