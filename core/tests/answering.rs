//! The loop guard in a world of agents: real bridges, each of its own user on its own machine, that answer whatever they
//! hear. The server here has two channels and hands each message on in order, and to each bridge as late as it likes. Once no
//! person writes any more, the agents come to an end.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use conclave_core::body;
use conclave_core::bridge::{
    Action, Bridge, Budget, CallId, Config, Input, Level, LinkEvent, Scope, Server, Settings, ToolCall,
};
use conclave_core::link::{Place, Proof};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Reply};
use conclave_core::record::ChannelId;
use conclave_core::stream::Origin;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use proptest::prelude::*;

const CHANNELS: [&str; 2] = ["ops", "dev"];
/// Between two steps. All of them together take less than the 6 hours after which what is sent answers nothing any more.
const STEP_MS: u64 = 5_000;

fn server() -> Server {
    Server::new("wss://conclave.example")
}

fn channel(at: usize) -> ChannelName {
    ChannelName::new(CHANNELS[at]).unwrap()
}

/// How an agent answers: where it heard a message, or on the other channel.
#[derive(Clone, Copy, Debug)]
enum Answers {
    There,
    Elsewhere,
}

struct Agent {
    bridge: Bridge,
    path: SessionPath,
    answers: Answers,
    /// How much of each channel it has heard.
    heard: [usize; 2],
    calls: u64,
    posted: [u32; 2],
}

struct World {
    agents: Vec<Agent>,
    posted: [Vec<(SessionPath, Payload)>; 2],
    now: Now,
}

impl World {
    fn new(agents: &[(u32, Answers)]) -> Self {
        let agents = agents.iter().enumerate().map(|(nth, (hops, answers))| {
            let mut config = Config::new(vec![server()]);
            // What each session counts for itself alone would stop them, too.
            let most = u32::MAX;
            config.budget = Budget { alone: most, exchange: most, conversation: most, ..Budget::default() };
            let mut settings = Settings { hops: Some(*hops), ..Settings::default() };
            settings.permissions.default = Level::Converse;
            let path: SessionPath = format!("user{nth}/m/agent").parse().unwrap();
            let mut bridge = Bridge::new(config, settings);
            let up = LinkEvent::Up { path: path.clone(), user: None, admin: false };
            let follow = |at: usize| LinkEvent::Followed {
                channel: Some(channel(at)),
                stream: ChannelId(at as u64),
                unread: false,
                skipped: None,
            };
            for event in [up, follow(0), follow(1)] {
                bridge.handle(Now::default(), Input::Link { server: server(), event }, &mut Vec::new());
            }
            Agent { bridge, path, answers: *answers, heard: [0; 2], calls: 0, posted: [0; 2] }
        });
        Self { agents: agents.collect(), posted: [Vec::new(), Vec::new()], now: Now::default() }
    }

    fn person_writes(&mut self) {
        self.posted[0].push(("person/m/cli".parse().unwrap(), Payload::Plain("hello, all".into())));
    }

    /// An agent hears the next message of a channel and answers it. False if it has heard all.
    fn turn(&mut self, nth: usize, at: usize) -> bool {
        self.now.mono = Monotonic(self.now.mono.0 + STEP_MS);
        let agent = &mut self.agents[nth];
        let seq = agent.heard[at];
        let Some((from, payload)) = self.posted[at].get(seq).cloned() else { return false };
        agent.heard[at] += 1;
        if from == agent.path {
            return true;
        }
        let (stream, origin) = (ChannelId(at as u64), Origin::default());
        let place = Some(Place { stream, seq: seq as u64 + 1, origin, proof: Proof::Verified });
        let event =
            LinkEvent::Message { channel: Some(channel(at)), from, at: Some(UnixMillis(0)), payload, place };
        agent.bridge.handle(self.now, Input::Link { server: server(), event }, &mut Vec::new());
        let to = match agent.answers {
            Answers::There => at,
            Answers::Elsewhere => 1 - at,
        };
        agent.calls += 1;
        let call = ToolCall::Send {
            server: None,
            channel: channel(to),
            text: Opaque("thank you".into()),
            reply_to: None,
            mentions: Vec::new(),
            wait: None,
        };
        let mut actions = Vec::new();
        agent.bridge.handle(self.now, Input::Call { id: CallId(agent.calls), call }, &mut actions);
        for action in actions {
            let Action::Request { id, command: Command::Post { channel: posted, payload }, .. } = action
            else {
                continue;
            };
            assert_eq!(posted, channel(to));
            agent.posted[to] += 1;
            self.posted[to].push((agent.path.clone(), payload));
            let event = LinkEvent::Reply { id, result: Ok(Reply::Sent) };
            agent.bridge.handle(self.now, Input::Link { server: server(), event }, &mut Vec::new());
        }
        true
    }

    /// All hear and answer, in this order, until nothing is left to be heard.
    fn run(&mut self, order: &[(u8, bool)]) {
        let count = self.agents.len();
        for (nth, second) in order {
            self.turn(usize::from(*nth) % count, usize::from(*second));
        }
        while (0..count).any(|nth| self.turn(nth, 0) | self.turn(nth, 1)) {}
    }
}

fn agents() -> impl Strategy<Value = Vec<(u32, Answers)>> {
    let answers = prop_oneof![3 => Just(Answers::There), 1 => Just(Answers::Elsewhere)];
    proptest::collection::vec((1..16_u32, answers), 1..7)
}

proptest! {
    /// Each message says no more hops than its sender's human allows, no agent writes more in one place than that for each
    /// message of a person there, and so all of them together end, however late they hear each other. A person who writes
    /// lets them go on.
    #[test]
    fn agents_that_answer_everything_end_without_a_person(
        agents in agents(),
        order in proptest::collection::vec(any::<(u8, bool)>(), 0..300),
    ) {
        let mut world = World::new(&agents);
        world.person_writes();
        world.run(&order);
        for (agent, (budget, _)) in world.agents.iter().zip(&agents) {
            // An agent that writes before it has heard the person may do so once more when it has.
            let [ops, dev] = agent.posted;
            prop_assert!(ops <= budget * 2 && dev <= *budget, "{ops} and {dev} of {budget}");
        }
        for (from, payload) in world.posted.iter().flatten().skip(1) {
            let Payload::Body(body) = payload else { continue };
            let said = body::context(body);
            let own = world.agents.iter().position(|agent| agent.path == *from).map(|nth| agents[nth].0);
            prop_assert!(said.hops >= 1 && said.hops <= said.budget && said.budget <= own.unwrap(), "{said:?}");
        }
        let before = world.posted[0].len();
        world.person_writes();
        world.run(&order);
        let answered = agents.iter().any(|(_, answers)| matches!(answers, Answers::There));
        prop_assert!(!answered || world.posted[0].len() > before + 1, "nobody answers the person");
    }
}

#[test]
fn two_agents_in_turns_write_exactly_what_the_stricter_human_allows() {
    let mut world = World::new(&[(10, Answers::There), (7, Answers::There)]);
    world.person_writes();
    world.agents[1].heard[0] = 1;
    for turn in 0..100 {
        while world.turn(turn % 2, 0) {}
    }
    // The first answers the person, the second the first, and so on: the limit of 7 travels with the second's messages.
    assert_eq!(world.posted[0].len() - 1, 7);
    assert_eq!(world.agents[0].bridge.level(&server(), &Scope::Channel(channel(0))), Level::Converse);
}
