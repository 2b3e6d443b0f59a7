//! `conclave demo`: a server and three agents in this process, over real sockets. What is shown has happened:
//! a line appears when everyone who should hear it has, and the demo fails when somebody does not.

mod agent;
mod relay;
mod show;
#[cfg(unix)]
mod wake;

use std::path::Path;

use conclave_core::handshake::Claim;
use conclave_core::key::SecretKey;
use conclave_core::link::Action;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::protocol::{Admin, Command, KickTarget, Reply, Visibility};
use conclave_shell_tokio::client::{Credentials, DialOptions, Session};
use conclave_shell_tokio::server::{self, Options, Server, Stop, listen};
use conclave_store::config::ServerUrl;
use conclave_store::journal::{self, Journal};
use tokio::task::JoinHandle;

use self::agent::Agent;
use self::relay::Relay;
use self::show::Show;
use crate::args::Demo;
use crate::connect::own_handle;
use crate::{Context, Failure};

pub(super) fn run(demo: &Demo, context: &Context) -> Result<(), Failure> {
    // The server lives on a thread of its own: it goes on while a reader is given time.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let show = Show::new(context.output, demo.fast);
    let played = if demo.wake { woken(&runtime, &show) } else { runtime.block_on(play(&show)) };
    runtime.shutdown_background();
    played
}

#[cfg(unix)]
fn woken(runtime: &tokio::runtime::Runtime, show: &Show) -> Result<(), Failure> {
    runtime.block_on(wake::play(show))
}

#[cfg(not(unix))]
fn woken(_: &tokio::runtime::Runtime, _: &Show) -> Result<(), Failure> {
    Err(Failure::new("agents are woken on Unix systems only", "conclave demo shows the rest"))
}

async fn play(show: &Show) -> Result<(), Failure> {
    let stop = Stop::new();
    let (url, server) = start_server(&stop)?;
    show.title(&format!(
        "A server on this machine ({url}, kept nowhere) and three agents. Nothing else is touched."
    ))?;
    let scenes = async {
        let mut cast = cast(show, &url).await?;
        public(show, &mut cast).await?;
        whisper(show, &mut cast).await?;
        private(show, &mut cast).await?;
        drop_and_catch_up(show, &mut cast).await?;
        kick(show, &mut cast).await
    };
    scenes.await?;
    stop.stop();
    // The server says goodbye to everyone; who has gone already is not waited for.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), server).await;
    show.end()
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::new(
        format!("the demo stopped: {what}"),
        "run it again; if it stops again, tell the project what you see",
    )
}

fn start_server(stop: &Stop) -> Result<(ServerUrl, JoinHandle<Result<(), Failure>>), Failure> {
    let journal = Journal::open(Path::new(""), journal::Options { ephemeral: true, ..Default::default() })
        .map_err(failed)?;
    let listener = listen(([127, 0, 0, 1], 0).into()).map_err(failed)?;
    let server = Server::new(listener, None, journal, Options::default()).map_err(failed)?;
    let address = server.address().map_err(failed)?;
    let url = format!("ws://{address}").parse().map_err(failed)?;
    let stop = stop.clone();
    let serving = async { server::run(server, stop).await.map_err(failed) };
    Ok((url, tokio::spawn(serving)))
}

struct Cast {
    planner: Agent,
    builder: Agent,
    reviewer: Agent,
    /// The network between the builder and the server.
    relay: Relay,
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(failed)
}

async fn cast(show: &Show, url: &ServerUrl) -> Result<Cast, Failure> {
    show.scene("Two people, each with a machine that has a key")?;
    let aaron = new_user(url, "aaron", "workstation").await?;
    show.told("aaron registers the machine workstation; two of his agents work there: planner and builder")?;
    let bea = new_user(url, "bea", "laptop").await?;
    show.told("bea registers the machine laptop; one of her agents works there: reviewer")?;
    let relay = Relay::start(url).await.map_err(failed)?;
    Ok(Cast {
        planner: Agent::connect(url, &aaron, "planner").await?,
        builder: Agent::connect(&relay.url, &aaron, "builder").await?,
        reviewer: Agent::connect(url, &bea, "reviewer").await?,
        relay,
    })
}

async fn new_user(url: &ServerUrl, user: &str, machine: &str) -> Result<SecretKey, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(failed)?;
    let key = SecretKey::from_seed(&seed);
    let claim =
        Some(Claim { user: name::<UserName>(user)?, machine: name::<MachineName>(machine)?, invite: None });
    let credentials = Credentials { key: key.clone(), handle: own_handle("demo")?, claim };
    let session = Session::open(url, credentials, &DialOptions::default()).await.map_err(failed)?;
    session.close().await;
    Ok(key)
}

async fn public(show: &Show, cast: &mut Cast) -> Result<(), Failure> {
    show.scene("A public channel: everybody sees it, everybody may join")?;
    let build: ChannelName = name("build")?;
    let create = Admin::CreateChannel { name: build.clone(), visibility: Visibility::Public };
    cast.planner.done(Command::Admin(create)).await?;
    for agent in [&mut cast.planner, &mut cast.builder, &mut cast.reviewer] {
        agent.join(&build, None).await?;
    }
    show.told("planner creates #build, and all three join it")?;
    let Cast { planner, builder, reviewer, .. } = cast;
    say(
        show,
        &build,
        planner,
        &mut [builder, reviewer],
        "The release branch is cut. Please build and review it.",
    )
    .await?;
    say(show, &build, builder, &mut [planner, reviewer], "Built in 48 s, all 312 tests pass.").await?;
    say(show, &build, reviewer, &mut [planner, builder], "Reading the changes to the parser now.").await
}

/// One agent posts; the line is shown when all the others have heard it.
async fn say(
    show: &Show,
    channel: &ChannelName,
    from: &mut Agent,
    hearers: &mut [&mut Agent],
    text: &str,
) -> Result<(), Failure> {
    from.post(channel, text).await?;
    for hearer in hearers.iter_mut() {
        hearer.hear(channel, text).await?;
    }
    show.post(channel, from.name(), &hearers.iter().map(|it| it.name()).collect::<Vec<_>>(), text)
}

async fn whisper(show: &Show, cast: &mut Cast) -> Result<(), Failure> {
    show.scene("A whisper: one session hears it, and it is kept nowhere")?;
    let text = "Between us: line 214 trusts its input. Shall I say so on the channel?";
    cast.reviewer.whisper(cast.planner.path()?, text).await?;
    cast.planner.hear_whisper(text).await?;
    show.whisper("reviewer", "planner", text)?;
    let text = "Not yet. I make a private channel for it.";
    cast.planner.whisper(cast.reviewer.path()?, text).await?;
    cast.reviewer.hear_whisper(text).await?;
    show.whisper("planner", "reviewer", text)
}

async fn private(show: &Show, cast: &mut Cast) -> Result<(), Failure> {
    show.scene("A private channel: unseen without an invite")?;
    let fix: ChannelName = name("fix")?;
    let create = Admin::CreateChannel { name: fix.clone(), visibility: Visibility::Private };
    cast.planner.done(Command::Admin(create)).await?;
    for agent in [&mut cast.planner, &mut cast.builder] {
        agent.join(&fix, None).await?;
    }
    show.told("planner creates #fix; aaron is its only member, so his builder joins, too")?;
    let refusal = cast.reviewer.refused_join(&fix).await?;
    show.refused("reviewer tries to join #fix", &refusal)?;
    let invite = Admin::InviteCreate { channel: fix.clone(), uses: Some(1), lifetime: None };
    let Reply::Invite(token) = cast.planner.ask(Command::Admin(invite)).await? else {
        return Err(failed("no invite was made"));
    };
    show.told("planner makes an invite that works once and gives it to bea")?;
    cast.reviewer.join(&fix, Some(token)).await?;
    show.told("reviewer joins #fix with it; bea is a member from now on")?;
    let Cast { planner, builder, reviewer, .. } = cast;
    say(
        show,
        &fix,
        reviewer,
        &mut [planner, builder],
        "Line 214 takes a length from the wire and allocates it.",
    )
    .await?;
    say(show, &fix, builder, &mut [planner, reviewer], "I bound it by what has arrived. Building.").await
}

async fn drop_and_catch_up(show: &Show, cast: &mut Cast) -> Result<(), Failure> {
    show.scene("A network that drops: nothing is lost, nothing comes twice")?;
    let build: ChannelName = name("build")?;
    cast.relay.cut();
    cast.builder
        .wait("lost its connection", |action| matches!(action, Action::Down(_)).then_some(()))
        .await?;
    show.told("the network between builder and the server is cut")?;
    let missed = ["builder, is the fix in?", "I wait with the tag until you are back."];
    for text in missed {
        say(show, &build, &mut cast.planner, &mut [&mut cast.reviewer], text).await?;
    }
    cast.relay.mend();
    cast.builder.wait("connected again", |action| matches!(action, Action::Up { .. }).then_some(())).await?;
    show.told("the network is back; builder connects again and reads what it missed:")?;
    for text in missed {
        cast.builder.hear(&build, text).await?;
        show.caught_up(&build, "builder", "planner", text)?;
    }
    let Cast { planner, builder, reviewer, .. } = cast;
    say(show, &build, builder, &mut [planner, reviewer], "The fix is in, tests pass. Tag it.").await
}

async fn kick(show: &Show, cast: &mut Cast) -> Result<(), Failure> {
    show.scene("A kick: it ends a subscription at once")?;
    let fix: ChannelName = name("fix")?;
    let target = KickTarget::User(name("bea")?);
    cast.planner.done(Command::Admin(Admin::Kick { channel: fix.clone(), target })).await?;
    show.told("planner is done with #fix and kicks bea's sessions from it")?;
    let refusal = cast.reviewer.refused_post(&fix, "One more thing…").await?;
    show.refused("reviewer posts to #fix", &refusal)?;
    let build: ChannelName = name("build")?;
    let Cast { planner, builder, reviewer, .. } = cast;
    say(show, &build, planner, &mut [builder, reviewer], "Tagged. Thank you, both.").await
}

/// An agent's own handle.
fn handle(text: &str) -> Result<Handle, Failure> {
    name(text)
}
