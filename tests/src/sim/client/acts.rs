//! What a link's application does of its own accord.

use std::time::Duration;

use conclave_core::link::JoinFrom;
use conclave_core::name::{ChannelName, MachineName, SessionPath, UserName};
use conclave_core::payload::{Envelope, Payload};
use conclave_core::protocol::{Admin, Command, KickTarget, Visibility};

use super::super::plan::MILLI;
use super::super::world::World;
use super::key;
use super::link::{Asked, LinkClient};

pub(super) const CHANNELS: [&str; 9] =
    ["general", "corner", "team", "vault", "c0", "c1", "c2", "c3", "vault2"];
pub(super) const USERS: [&str; 8] = ["root", "u0", "u1", "u2", "u3", "u4", "u5", "eve"];

impl LinkClient {
    /// Does something; says when to do the next thing.
    pub(super) fn act(&mut self, world: &mut World) -> u64 {
        let pace = self.chance.around(world.plan.pace) + MILLI;
        if self.ended {
            // Perhaps its key is enrolled now.
            if self.chance.one_in(8) {
                self.restart(world);
            }
            return pace;
        }
        if self.follows.is_empty() || self.chance.one_in(16) {
            self.act_join(world);
        }
        if self.chance.one_in(world.plan.administration) {
            self.administrate(world);
            return pace;
        }
        match self.chance.below(100) {
            0..70 => {
                let burst = if self.chance.one_in(6) { self.chance.below(12) } else { 1 };
                for _ in 0..burst {
                    self.act_post(world);
                }
            }
            70..80 => self.act_whisper(world),
            80..84 => {
                if let Some(channel) = self.some_followed() {
                    self.leave(world, channel);
                }
            }
            84..88 => self.act_join(world),
            _ => self.act_query(world),
        }
        pace
    }

    fn some_followed(&mut self) -> Option<ChannelName> {
        let nth = self.chance.index(self.follows.len());
        self.follows.keys().nth(nth).cloned()
    }

    /// Any channel; mostly one that exists and that it follows.
    fn some_channel(&mut self) -> ChannelName {
        if !self.chance.one_in(8)
            && let Some(channel) = self.some_followed()
        {
            return channel;
        }
        name(self.chance.word(&CHANNELS))
    }

    fn act_join(&mut self, world: &mut World) {
        // The first ones are where most meet.
        let most = *self.chance.pick(&[1, 3, 4, CHANNELS.len()]);
        let mut channel = name(self.chance.word(&CHANNELS[..most]));
        let mut token = None;
        if self.chance.one_in(4) {
            let shared = world.some_token(&mut self.chance);
            if let Some((known, known_token)) = shared {
                (channel, token) = (known, Some(known_token));
            }
        }
        let from = if self.chance.one_in(2) {
            JoinFrom::Live
        } else {
            JoinFrom::Since(self.some_stamp(world, &channel))
        };
        self.join(world, channel, token, from);
    }

    fn deadline(&mut self, world: &World) -> Option<conclave_core::time::Monotonic> {
        let now = world.client_now(self.wall_error).mono;
        self.chance.one_in(3).then(|| now + Duration::from_millis(1 + self.chance.below(20_000)))
    }

    fn act_post(&mut self, world: &mut World) {
        let channel = self.some_channel();
        let number = self.identity.number;
        let payload = if self.chance.one_in(20) {
            let ciphertext = vec![self.chance.next() as u8; self.chance.index(40)];
            Payload::Encrypted(Envelope { ciphertext, key_id: None })
        } else if self.chance.below(100) < world.plan.repeats {
            Payload::Plain(format!("{}#{number}", self.chance.word(&["a", "a", "b"])))
        } else if self.chance.one_in(40) {
            Payload::Plain(format!("{}#{number}{}", self.asked, " ".repeat(self.chance.index(3_000))))
        } else {
            Payload::Plain(format!("{}#{number}", self.asked))
        };
        let text = match &payload {
            Payload::Plain(text) => Some(text.clone()),
            Payload::Encrypted(_) | Payload::Body(_) => None,
        };
        let deadline = self.deadline(world);
        self.ask(world, Command::Post { channel, payload }, Asked { text, invite: None }, deadline);
    }

    fn act_whisper(&mut self, world: &mut World) {
        let target = match world.some_path(&mut self.chance) {
            Some(target) if !self.chance.one_in(8) => target,
            _ => match SessionPath::new("u1", "m", "nobody") {
                Ok(target) => target,
                Err(_) => return,
            },
        };
        let payload = Payload::Plain(format!("to {target}"));
        let deadline = self.deadline(world);
        self.query(world, Command::Whisper { target, payload }, deadline);
    }

    fn query(
        &mut self,
        world: &mut World,
        command: Command,
        deadline: Option<conclave_core::time::Monotonic>,
    ) {
        self.ask(world, command, Asked { text: None, invite: None }, deadline);
    }

    /// A whisper was handed on.
    pub(super) fn whispered(&mut self, world: &mut World, payload: &Payload) {
        world.coverage.whispers += 1;
        let Payload::Plain(text) = payload else { return };
        // Those of a link of version 2 begin with what makes them the only ones.
        let meant = self.path().is_some_and(|path| text.ends_with(&format!("to {path}")));
        if !meant {
            world.fail(format!("link {} was told a whisper {text}", self.identity.number));
        }
    }

    fn act_query(&mut self, world: &mut World) {
        let channel = self.some_channel();
        let command = match self.chance.below(6) {
            0 => Command::Who { channel: None },
            1 => Command::Who { channel: Some(channel) },
            2 => Command::ListChannels,
            3 => Command::ListMachines,
            4 => Command::ListUsers,
            _ => Command::ReadSince { since: self.some_stamp(world, &channel), channel },
        };
        let deadline = self.deadline(world);
        self.query(world, command, deadline);
    }

    fn administrate(&mut self, world: &mut World) {
        let channel =
            if self.chance.one_in(2) { self.some_channel() } else { name(self.chance.word(&CHANNELS)) };
        // The outsider stays one.
        let secret = channel.as_str().starts_with("vault");
        let users = if secret { &USERS[..7] } else { &USERS[..] };
        let Ok(user) = UserName::new(self.chance.word(users)) else { return };
        let visibility = *self.chance.pick(&[Visibility::Public, Visibility::Unlisted, Visibility::Private]);
        let visibility = if secret { Visibility::Private } else { visibility };
        let new_name =
            name(if secret { "vault2" } else { self.chance.word(&["c0", "c1", "c2", "c3", "corner"]) });
        let mut invite = None;
        let admin = match self.chance.below(40) {
            0..8 => Admin::CreateChannel { name: channel, visibility },
            8..10 => Admin::DeleteChannel { name: channel },
            10..12 => Admin::RenameChannel { name: channel, new_name },
            12..14 => Admin::SetVisibility { name: channel, visibility },
            14..18 => Admin::AclAdd { channel, user },
            18..20 => Admin::AclRemove { channel, user },
            20..22 => Admin::AclList { channel },
            22..26 => {
                invite = Some(channel.clone());
                let uses = *self.chance.pick(&[None, Some(1), Some(1), Some(2), Some(0)]);
                let lifetime = self.chance.one_in(4).then(|| Duration::from_secs(self.chance.below(30)));
                Admin::InviteCreate { channel, uses, lifetime }
            }
            26 => match world.some_token(&mut self.chance) {
                Some((_, token)) => Admin::InviteRevoke { token },
                None => return,
            },
            27 => Admin::InviteList { channel },
            28..30 => Admin::Kick { channel, target: KickTarget::User(user) },
            30 => match world.some_path(&mut self.chance) {
                Some(path) => Admin::Kick { channel, target: KickTarget::Session(path) },
                None => return,
            },
            31..33 => Admin::Ban { channel, user },
            33..35 => Admin::Unban { channel, user },
            35 => Admin::BanList { channel },
            36 if !matches!(user.as_str(), "root" | "u0" | "eve") => Admin::UserRemove { user },
            37 => {
                let Ok(name) = MachineName::new("spare") else { return };
                Admin::MachineAdd { name, key: key(super::super::spare_key(self.identity.user)).public() }
            }
            38 => {
                let machine = self.chance.word(&["spare", "spare", "spare", "m"]);
                let Ok(name) = MachineName::new(machine) else { return };
                Admin::MachineRemove { name }
            }
            _ => return,
        };
        let deadline = self.deadline(world);
        self.ask(world, Command::Admin(admin), Asked { text: None, invite }, deadline);
    }
}

fn name(text: &str) -> ChannelName {
    match ChannelName::new(text) {
        Ok(name) => name,
        Err(why) => panic!("{text}: {why}"),
    }
}
