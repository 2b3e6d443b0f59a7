//! A server as a process, and users who are registered on it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A server, its data, and a configuration directory for each user. The first user is an admin.
pub(crate) struct Scene {
    dir: TempDir,
    admin: String,
    url: String,
    server: Option<Child>,
    /// What the server is started with beside the usual.
    extra: Vec<String>,
}

impl Scene {
    pub(crate) fn new(users: &[&str]) -> Self {
        Self::started(users, |_| Vec::new(), &[])
    }

    /// A scene whose server has the arguments that `extra` makes in the scene's directory, and whose users register
    /// with `register` beside the usual.
    pub(crate) fn started(
        users: &[&str],
        extra: impl FnOnce(&Path) -> Vec<String>,
        register: &[&str],
    ) -> Self {
        let mut scene = Self {
            extra: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
            admin: users[0].to_owned(),
            url: "127.0.0.1:0".to_owned(),
            server: None,
        };
        scene.extra = extra(scene.dir.path());
        scene.start_server();
        for user in users {
            let usual = ["register", "--server", scene.url(), "--username", user, "--machine", "m"];
            let registered = scene.conclave(user, &[&usual[..], register].concat());
            assert!(registered.status.success(), "{registered:?}");
        }
        scene
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The directory of all of it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Freezes the server: its connections stand, and it answers nothing.
    #[cfg(unix)]
    pub(crate) fn freeze_server(&self) {
        let id = self.server.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-STOP", &id]).status().unwrap().success());
        // A thread that is running when the signal comes goes on for a moment: the kernel shows when all have stopped.
        let stopped = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        let tasks = || std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
        let all_stopped = || {
            tasks().all(|task| {
                std::fs::read_to_string(task.unwrap().path().join("stat")).is_ok_and(|stat| stopped(&stat))
            })
        };
        while cfg!(target_os = "linux") && !all_stopped() {
            std::thread::yield_now();
        }
    }

    /// Starts the server: at first on a port of the system's, later on the same.
    pub(crate) fn start_server(&mut self) {
        let address = self.url.rsplit('/').next().unwrap_or_default();
        let mut command = self.command("server");
        command.args(["serve", "--bind", address, "--admin", &self.admin, "--data-dir"]);
        command
            .arg(self.dir.path().join("data"))
            .args(&self.extra)
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let mut server = command.spawn().unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap());
        let mut all = String::new();
        let url = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended: {all}");
            if let Some((_, rest)) = line.split_once("serves ") {
                break rest.split([',', ' ']).next().unwrap().to_owned();
            }
            all.push_str(&line);
        };
        // The log is read on, so that the server never waits for somebody to read it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.url = url;
        self.server = Some(server);
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn command(&self, user: &str) -> Command {
        let home = self.dir.path().join(user);
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
        command
            .current_dir(&home)
            .env("HOME", &home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("CONCLAVE_CONFIG_DIR");
        command
    }

    /// Runs a command as a user.
    pub(crate) fn conclave(&self, user: &str, args: &[&str]) -> Output {
        self.command(user).arg("--config-dir").arg(self.dir.path().join(user)).args(args).output().unwrap()
    }

    /// Runs a command as a user, with something on its standard input.
    pub(crate) fn piped(&self, user: &str, args: &[&str], input: Stdio) -> Output {
        let mut command = self.command(user);
        command.arg("--config-dir").arg(self.dir.path().join(user)).args(args).stdin(input);
        command.output().unwrap()
    }

    /// Runs a verb, which must do what it is told.
    pub(crate) fn does(&self, user: &str, args: &[&str]) {
        let output = self.conclave(user, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    pub(crate) fn bridge(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.command(user);
        command.arg("bridge").arg("--config-dir").arg(self.dir.path().join(user)).args(args);
        command
    }

    /// Sets the level of a channel, as the human does.
    pub(crate) fn level(&self, user: &str, level: &str, channel: &str) {
        let set = self.conclave(user, &["perm", "set", level, "--server", self.url(), "--channel", channel]);
        assert!(set.status.success(), "{set:?}");
    }

    /// Sets the level of whispers, as the human does.
    pub(crate) fn whispers(&self, user: &str, level: &str) {
        let set = self.conclave(user, &["perm", "set", level, "--server", self.url(), "--whisper"]);
        assert!(set.status.success(), "{set:?}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.kill_server();
    }
}
