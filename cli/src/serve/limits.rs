//! `--limit NAME=VALUE`: the names that operators give to what is bounded.

use std::time::Duration;

use conclave_core::hub::Rate;
use conclave_shell_tokio::server::Options;

/// What is wrong, and what to type instead.
type Wrong = (String, String);

/// How a limit is changed.
enum Limit {
    Rate(fn(&mut Options) -> &mut Rate),
    Count(fn(&mut Options) -> &mut usize),
    Bytes(fn(&mut Options) -> &mut u64),
}

/// Every limit, by the name that it is set with.
const LIMITS: &[(&str, Limit)] = &[
    ("session-posts", Limit::Rate(|options| &mut options.hub.limits.session.posts)),
    ("session-whispers", Limit::Rate(|options| &mut options.hub.limits.session.whispers)),
    ("session-bytes", Limit::Rate(|options| &mut options.hub.limits.session.bytes)),
    ("session-control", Limit::Rate(|options| &mut options.hub.limits.session.control)),
    ("session-replies", Limit::Rate(|options| &mut options.hub.limits.session.replies)),
    ("user-posts", Limit::Rate(|options| &mut options.hub.limits.user.posts)),
    ("user-whispers", Limit::Rate(|options| &mut options.hub.limits.user.whispers)),
    ("user-bytes", Limit::Rate(|options| &mut options.hub.limits.user.bytes)),
    ("user-control", Limit::Rate(|options| &mut options.hub.limits.user.control)),
    ("user-replies", Limit::Rate(|options| &mut options.hub.limits.user.replies)),
    ("failed-authentications", Limit::Rate(|options| &mut options.admission.failures)),
    ("memory-per-user", Limit::Count(|options| &mut options.hub.limits.memory_per_user)),
    ("memory", Limit::Count(|options| &mut options.hub.limits.memory)),
    ("sessions", Limit::Count(|options| &mut options.hub.limits.sessions)),
    ("sessions-per-user", Limit::Count(|options| &mut options.hub.limits.sessions_per_user)),
    ("subscriptions-per-session", Limit::Count(|options| &mut options.hub.limits.subscriptions_per_session)),
    ("channels-per-user", Limit::Count(|options| &mut options.hub.limits.channels_per_user)),
    ("members-per-channel", Limit::Count(|options| &mut options.hub.limits.members_per_channel)),
    ("bans-per-channel", Limit::Count(|options| &mut options.hub.limits.bans_per_channel)),
    ("invites-per-channel", Limit::Count(|options| &mut options.hub.limits.invites_per_channel)),
    ("invites", Limit::Count(|options| &mut options.hub.limits.invites)),
    ("user-invites", Limit::Count(|options| &mut options.hub.limits.user_invites)),
    ("stored-per-user", Limit::Bytes(|options| &mut options.hub.limits.stored_per_user)),
    ("stored-per-channel", Limit::Bytes(|options| &mut options.hub.limits.stored_per_channel)),
    ("stored", Limit::Bytes(|options| &mut options.hub.limits.stored)),
    ("disk-free", Limit::Bytes(|options| &mut options.hub.limits.disk_free)),
    ("machines-per-user", Limit::Count(|options| &mut options.hub.limits.machines_per_user)),
    ("contacts-per-user", Limit::Count(|options| &mut options.hub.limits.contacts_per_user)),
    ("mailbox-messages", Limit::Count(|options| &mut options.hub.limits.mailbox_messages)),
    ("mailbox-bytes", Limit::Count(|options| &mut options.hub.limits.mailbox_bytes)),
    ("key-packages-per-machine", Limit::Count(|options| &mut options.hub.limits.key_packages_per_machine)),
    ("key-package-bytes", Limit::Count(|options| &mut options.hub.limits.key_package_bytes)),
    ("commit-bytes", Limit::Count(|options| &mut options.hub.limits.commit_bytes)),
    ("group-info-bytes", Limit::Count(|options| &mut options.hub.limits.group_info_bytes)),
    ("welcome-bytes", Limit::Count(|options| &mut options.hub.limits.welcome_bytes)),
    ("roster-entries", Limit::Count(|options| &mut options.hub.limits.roster_entries)),
    ("roster-entry-bytes", Limit::Count(|options| &mut options.hub.limits.roster_entry_bytes)),
    ("sealed-bytes", Limit::Count(|options| &mut options.hub.limits.sealed_bytes)),
    ("name-bytes", Limit::Count(|options| &mut options.hub.limits.name_bytes)),
    ("users", Limit::Count(|options| &mut options.hub.limits.users)),
    ("frame-bytes", Limit::Count(|options| &mut options.bounds.frame)),
    ("queue-bytes", Limit::Count(|options| &mut options.bounds.queue)),
    ("registrations-per-address", Limit::Count(|options| &mut options.admission.registrations)),
    ("opening-connections", Limit::Count(|options| &mut options.admission.total)),
    ("opening-connections-per-address", Limit::Count(|options| &mut options.admission.per_address)),
];

/// Sets a limit: a rate as tokens a second, `off`, or `RATE:BURST`; a number as it is; `idle-seconds` as seconds.
pub(super) fn set(options: &mut Options, name: &str, value: &str) -> Result<(), Wrong> {
    let wrong = |expected: &str| {
        (format!("--limit {name}={value}: that is no value for it"), format!("write {name}={expected}"))
    };
    if name == "all" {
        if value != "off" {
            return Err(wrong("off"));
        }
        options.hub.limits = std::mem::take(&mut options.hub.limits).without_rates();
        options.admission.failures = Rate::OFF;
        options.admission.registrations = 0;
        return Ok(());
    }
    if name == "idle-seconds" {
        let seconds = value.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(|| wrong("60"))?;
        options.hub.limits.idle = Duration::from_secs(seconds);
        return Ok(());
    }
    match LIMITS.iter().find(|(known, _)| *known == name) {
        Some((_, Limit::Rate(rate))) => {
            *rate(options) =
                parse_rate(value).ok_or_else(|| wrong("100, or 100:500 with a burst, or off"))?;
        }
        Some((_, Limit::Count(count))) => {
            let most = if name == "frame-bytes" { conclave_core::wire::MAX_FRAME } else { usize::MAX };
            *count(options) = value
                .parse()
                .ok()
                .filter(|value| (1..=most).contains(value))
                .ok_or_else(|| wrong("NUMBER, at least 1 (a frame has at most 16777216 bytes)"))?;
        }
        Some((_, Limit::Bytes(bytes))) => {
            *bytes(options) =
                value.parse().ok().filter(|value| *value > 0).ok_or_else(|| wrong("BYTES, at least 1"))?;
        }
        None => {
            let names: Vec<_> = LIMITS.iter().map(|(name, _)| *name).collect();
            let known = format!("known: {}, idle-seconds, all=off", names.join(", "));
            return Err((format!("--limit {name}: there is no such limit"), known));
        }
    }
    Ok(())
}

fn parse_rate(text: &str) -> Option<Rate> {
    if text == "off" {
        return Some(Rate::OFF);
    }
    let (per_second, burst) = match text.split_once(':') {
        Some((rate, burst)) => (rate.parse().ok()?, burst.parse().ok()?),
        None => {
            let rate: u32 = text.parse().ok()?;
            (rate, rate.saturating_mul(5))
        }
    };
    (per_second > 0 && burst > 0).then(|| Rate::new(per_second, burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::hub::Limits;

    #[test]
    fn every_limit_can_be_set() {
        for (name, limit) in LIMITS {
            let mut options = Options::default();
            set(&mut options, name, "7").unwrap();
            match limit {
                Limit::Rate(rate) => assert_eq!(*rate(&mut options), Rate::new(7, 35), "{name}"),
                Limit::Count(count) => assert_eq!(*count(&mut options), 7, "{name}"),
                Limit::Bytes(bytes) => assert_eq!(*bytes(&mut options), 7, "{name}"),
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_rules() {
        use conclave_core::handshake::{HANDSHAKE_TIMEOUT, MAX_HANDSHAKE_FRAME};
        let Options { hub, bounds, .. } = Options::default();
        assert_eq!(hub.limits.idle, Duration::from_secs(60));
        assert_eq!((hub.limits.page_rows, hub.limits.page_bytes), (500, 1 << 20));
        assert_eq!(
            (MAX_HANDSHAKE_FRAME, bounds.frame, conclave_core::wire::MAX_FRAME),
            (4 << 10, 1 << 20, 16 << 20)
        );
        assert_eq!(HANDSHAKE_TIMEOUT, Duration::from_secs(10));
        let serve = <crate::args::Cli as clap::Parser>::try_parse_from(["conclave", "serve"]).unwrap();
        let crate::args::Verb::Serve(serve) = serve.verb else { panic!("another verb") };
        assert_eq!(serve.retention, Duration::from_secs(7 * 86_400));
        assert_eq!(serve.bind.to_string(), "127.0.0.1:4390");
        assert_eq!((serve.registration, serve.metrics_bind), (crate::args::Registration::Open, None));
    }

    #[test]
    fn rates_can_be_switched_off_and_bounds_stay() {
        let mut options = Options::default();
        set(&mut options, "all", "off").unwrap();
        assert_eq!(options.hub.limits.session.posts, Rate::OFF);
        assert_eq!(options.admission.failures, Rate::OFF);
        assert_eq!(options.bounds, Options::default().bounds);
        assert_eq!(options.hub.limits.sessions_per_user, Limits::default().sessions_per_user);
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_to_type() {
        let mut options = Options::default();
        for (name, value) in
            [("all", "on"), ("session-posts", "0"), ("frame-bytes", "99999999999"), ("idle-seconds", "0")]
        {
            let (_, next) = set(&mut options, name, value).unwrap_err();
            assert!(next.starts_with(&format!("write {name}=")), "{next}");
        }
        assert!(set(&mut options, "nothing", "1").unwrap_err().1.contains("session-posts"));
    }
}
