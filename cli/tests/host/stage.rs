//! A server, people, and a host whose agents are shell scripts.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Home, PATIENCE, Running, Server};

pub(crate) struct Stage {
    pub(crate) server: Server,
    /// Whose agents they are.
    pub(crate) aaron: Home,
    /// Somebody else on #ops.
    pub(crate) bea: Home,
    dir: TempDir,
    toml: String,
    host: Option<Running>,
}

impl Stage {
    pub(crate) fn new(serve: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let data = ["--data-dir", data.to_str().unwrap()];
        let server = Server::with([&data[..], serve].concat());
        let (aaron, bea) = (Home::registered(&server.url, "aaron"), Home::registered(&server.url, "bea"));
        bea.run(["channel", "create", "ops"]).ok();
        bea.run(["acl", "add", "ops", "aaron"]).ok();
        Self { server, aaron, bea, dir, toml: String::new(), host: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Declares an agent on #ops that runs a script; `$DIR` in it is the stage's directory. `more` is further keys.
    pub(crate) fn agent(&mut self, name: &str, script: &str, more: &str) -> &mut Self {
        let (path, dir) = (self.path(name), self.dir.path().display());
        fs::write(&path, format!("DIR={dir}\n{script}\n")).unwrap();
        let command = format!("command = [\"/bin/sh\", \"{}\"]", path.display());
        let level = if more.contains("level = ") { "" } else { "level = \"converse\"\n" };
        write!(
            self.toml,
            "[[agent]]\nname = \"{name}\"\ndirectory = \"{dir}\"\n{command}\nchannels = [\"ops\"]\n{level}{more}\n"
        )
        .unwrap();
        self
    }

    pub(crate) fn declare(&mut self, more: &str) -> &mut Self {
        self.toml += more;
        self
    }

    /// Starts the host; returns once its agents hear what is posted on #ops.
    pub(crate) fn start(&mut self) {
        let path = self.aaron.path("agents.toml");
        fs::write(&path, &self.toml).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let host = Running::start(self.aaron.command(["host"]));
        for _ in 0..self.toml.matches("channel").count() {
            host.note("follows");
        }
        self.host = Some(host);
        // The host hears of a connection a moment after it is logged.
        self.until("all connected", |stage| {
            let status = stage.aaron.run(["host", "status", "--json"]).json();
            status.as_array().unwrap().iter().all(|it| it["state"] != "not connected")
        });
    }

    /// As a crash would.
    pub(crate) fn kill(&mut self) {
        drop(self.host.take().unwrap());
    }

    pub(crate) fn note(&self, text: &str) -> String {
        self.host.as_ref().unwrap().note(text)
    }

    pub(crate) fn say(&self, text: &str) -> Value {
        self.bea.run(["send", "ops", text, "--json"]).json()
    }

    /// Posts, and waits until the agent that is meant has confirmed it.
    pub(crate) fn say_and_wait(&self, text: &str) -> Value {
        let args = ["send", "--channel", "ops", text, "--wait", "acknowledged", "--timeout", "50s", "--json"];
        self.bea.run(args).json()
    }

    /// Ends the server as a crash would, and starts it again on the same port once `meanwhile` is over.
    pub(crate) fn restart_server(&mut self, meanwhile: impl FnOnce(&Self)) {
        let (data, port) = (self.path("data"), self.server.port);
        let idle = std::mem::replace(&mut self.server, Server::start());
        idle.kill();
        meanwhile(self);
        let bind = format!("127.0.0.1:{port}");
        self.server = Server::at(&bind, ["--data-dir", data.to_str().unwrap()]);
    }

    /// All that was posted on #ops, oldest first.
    pub(crate) fn posts(&self) -> Vec<Value> {
        let out = self.bea.run(["tail", "ops", "--since", "1d", "--no-follow", "--json"]).ok().out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What an agent posted on #ops.
    pub(crate) fn answers(&self, agent: &str) -> Vec<String> {
        let posts = self.posts().into_iter().filter(|it| it["session"] == agent);
        posts.map(|it| it["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}: {}", self.logs());
            std::thread::yield_now();
        }
    }

    pub(crate) fn status(&self, agent: &str) -> Value {
        let status = self.aaron.run(["host", "status", agent, "--json"]).json();
        status[0].clone()
    }

    pub(crate) fn logs(&self) -> String {
        self.aaron.run(["host", "logs"]).out
    }

    /// The lines of a file in the stage's directory.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes a pipe by which a script tells the test where it is.
    pub(crate) fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Waits until a script writes a line to a pipe.
    #[track_caller]
    pub(crate) fn told(&self, name: &str) -> String {
        let (path, (say, said)) = (self.path(name), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(fs::File::open(path).unwrap()).read_line(&mut line).unwrap();
            let _ = say.send(line.trim().to_owned());
        });
        said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing was told: {}", self.logs()))
    }

    /// The state of a message for an agent's session, as its sender sees it.
    pub(crate) fn state(&self, sent: &Value, agent: &str) -> String {
        let receipts = self.bea.run(["receipts", "ops", &sent["seq"].to_string(), "--json"]).json();
        let of =
            receipts.as_array().unwrap().iter().find(|it| it["reader"].as_str().unwrap().ends_with(agent));
        of.map_or(String::new(), |it| it["state"].as_str().unwrap().to_owned())
    }
}
