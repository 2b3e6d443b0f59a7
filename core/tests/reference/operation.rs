//! Steps, made of any bytes: of those that a property test draws, or that a fuzzer tries.

use std::time::Duration;

use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, MachineName, SessionPath, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, KickTarget, Token, Visibility};
use conclave_core::time::UnixMillis;

/// One step of a world. Numbers name things modulo how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Open {
        user: u8,
        machine: u8,
        handle: u8,
        key: (u8, u8),
        registers: bool,
    },
    Request {
        session: u8,
        command: Command,
    },
    Close {
        conn: u8,
    },
    Overflow {
        conn: u8,
    },
    RoundEnded,
    Persisted,
    Failed,
    Read {
        fails: bool,
    },
    /// Time passes.
    Pass {
        millis: u32,
    },
    /// The wall clock is set.
    Jump {
        millis: i32,
    },
    Shutdown,
}

/// The names of the things in this small world.
pub mod name {
    pub const USERS: [&str; 4] = ["root", "ann", "bob", "cid"];

    pub fn user(nth: u8) -> String {
        USERS[usize::from(nth) % USERS.len()].into()
    }
    pub fn machine(nth: u8) -> String {
        ["m", "n", "o"][usize::from(nth) % 3].into()
    }
    pub fn handle(nth: u8) -> String {
        ["s", "t", "u"][usize::from(nth) % 3].into()
    }
    pub fn channel(nth: u8) -> String {
        // One is more popular, so that people meet.
        ["x", "x", "x", "x", "y", "y", "z"][usize::from(nth) % 7].into()
    }
}

/// The key of a user's machine.
pub fn key(user: u8, machine: u8) -> PublicKey {
    let mut bytes = [b'k'; 32];
    bytes[0] = user % name::USERS.len() as u8;
    bytes[1] = machine % 3;
    PublicKey::from_trusted(bytes)
}

/// Bytes to make steps of; zeros follow the last.
struct Bytes<'a, 'b>(&'a mut &'b [u8]);

impl Bytes<'_, '_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        *self.0 = rest;
        *first
    }

    fn user(&mut self) -> UserName {
        // One name that nobody ever holds.
        let nth = self.next() % 9;
        UserName::new(&if nth == 8 { "nobody".into() } else { name::user(nth) }).unwrap()
    }

    fn channel(&mut self) -> ChannelName {
        ChannelName::new(&name::channel(self.next())).unwrap()
    }

    fn path(&mut self) -> SessionPath {
        SessionPath::new(
            &name::user(self.next()),
            &name::machine(self.next() % 2),
            &name::handle(self.next() % 2),
        )
        .unwrap()
    }

    fn visibility(&mut self) -> Visibility {
        [Visibility::Private, Visibility::Public, Visibility::Unlisted][usize::from(self.next()) % 3]
    }

    fn token(&mut self) -> Token {
        Token::new(&format!("t{:03}", self.next() % 6))
    }

    fn payload(&mut self) -> Payload {
        let byte = self.next();
        Payload::Plain(char::from(b'a' + byte % 26).to_string().repeat(usize::from(byte) / 26 + 1))
    }

    fn command(&mut self) -> Command {
        Command::Admin(match self.next() % 64 {
            0..=8 => {
                let channel = self.channel();
                let token = self.next().is_multiple_of(3).then(|| self.token());
                return Command::Join { channel, token };
            }
            9 | 10 => return Command::Join { channel: self.channel(), token: Some(self.token()) },
            11 | 12 => return Command::Leave { channel: self.channel() },
            13 => return Command::Who { channel: None },
            14 => return Command::Who { channel: Some(self.channel()) },
            15..=26 => return Command::Post { channel: self.channel(), payload: self.payload() },
            27 | 28 => return Command::Whisper { target: self.path(), payload: self.payload() },
            29 => return Command::ListChannels,
            30 => return Command::ListMachines,
            31 => return Command::ListUsers,
            32..=34 => {
                let channel = self.channel();
                // From the start, or from about now.
                let since =
                    [0, 1_700_000_000_000 + i64::from(self.next()) * 500][usize::from(self.next()) % 2];
                return Command::ReadSince { channel, since: UnixMillis(since) };
            }
            35 => return Command::Ping,
            36..=39 => Admin::CreateChannel { name: self.channel(), visibility: self.visibility() },
            40 => Admin::DeleteChannel { name: self.channel() },
            41 | 42 => Admin::RenameChannel { name: self.channel(), new_name: self.channel() },
            43 | 44 => Admin::SetVisibility { name: self.channel(), visibility: self.visibility() },
            45 | 46 => Admin::AclAdd { channel: self.channel(), user: self.user() },
            47 => Admin::AclRemove { channel: self.channel(), user: self.user() },
            48 => Admin::AclList { channel: self.channel() },
            49..=51 => {
                let channel = self.channel();
                let uses = [None, Some(1), Some(2), Some(0)][usize::from(self.next()) % 4];
                let lifetime =
                    [None, Some(1), Some(20), Some(u64::MAX), Some(0)][usize::from(self.next()) % 5];
                Admin::InviteCreate { channel, uses, lifetime: lifetime.map(Duration::from_secs) }
            }
            52 => Admin::InviteRevoke { token: self.token() },
            53 => Admin::InviteList { channel: self.channel() },
            54 => Admin::Kick { channel: self.channel(), target: KickTarget::User(self.user()) },
            55 => Admin::Kick { channel: self.channel(), target: KickTarget::Session(self.path()) },
            56 | 57 => Admin::Ban { channel: self.channel(), user: self.user() },
            58 => Admin::Unban { channel: self.channel(), user: self.user() },
            59 => Admin::BanList { channel: self.channel() },
            60 => Admin::UserRemove { user: self.user() },
            61 | 62 => {
                let (user, machine) = (self.next(), self.next());
                let machine_name = MachineName::new(&name::machine(self.next())).unwrap();
                Admin::MachineAdd { name: machine_name, key: key(user, machine) }
            }
            _ => Admin::MachineRemove { name: MachineName::new(&name::machine(self.next())).unwrap() },
        })
    }
}

impl Operation {
    /// Makes a step of the first bytes, taking them off.
    pub fn read(bytes: &mut &[u8]) -> Self {
        let mut bytes = Bytes(bytes);
        match bytes.next() % 64 {
            0..=5 => {
                let (user, machine, handle) = (bytes.next(), bytes.next() % 2, bytes.next() % 3);
                let stolen = bytes.next();
                let key = if stolen < 20 { (stolen, machine) } else { (user, machine) };
                Self::Open { user, machine, handle, key, registers: bytes.next() % 4 == 0 }
            }
            6..=39 => Self::Request { session: bytes.next(), command: bytes.command() },
            40..=46 => Self::RoundEnded,
            47..=54 => Self::Persisted,
            55 | 56 => Self::Failed,
            57 | 58 => Self::Read { fails: bytes.next() % 8 == 0 },
            59 => Self::Pass {
                millis: [1, 250, 250, 1_000, 1_000, 5_000, 20_000, 60_000][usize::from(bytes.next()) % 8],
            },
            60 => Self::Jump { millis: (i32::from(bytes.next()) - 128) * 100 },
            61 | 62 => {
                let conn = bytes.next();
                if bytes.next() % 4 == 0 { Self::Overflow { conn } } else { Self::Close { conn } }
            }
            _ => match bytes.next() {
                0..4 => Self::Shutdown,
                _ => Self::RoundEnded,
            },
        }
    }

    /// What every world starts with: three users, of whom one is an admin of the server.
    pub fn prelude() -> Vec<Self> {
        let mut steps = Vec::new();
        for user in 0..3 {
            steps.push(Self::Open { user, machine: 0, handle: 0, key: (user, 0), registers: true });
            steps.extend([Self::RoundEnded, Self::Persisted]);
        }
        steps
    }
}
