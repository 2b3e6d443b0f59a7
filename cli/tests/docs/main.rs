//! The documentation does what it says: its commands are run and their output compared, and what it names exists.

#![cfg(unix)]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test fails by panicking, and nobody uses it")]

mod masked;
mod names;
mod page;
mod transcript;

macro_rules! transcripts {
    ($($name:ident: $path:literal,)*) => {
        $(#[test]
        fn $name() {
            transcript::run(&page::page($path));
        })*

        #[test]
        fn every_page_with_a_console_is_run() {
            let run = [$($path),*];
            for page in page::pages() {
                let has_console = page.blocks().iter().any(|block| block.language == "console");
                assert_eq!(has_console, run.contains(&page.path.as_str()), "{}", page.path);
            }
        }
    };
}

transcripts! {
    the_readme_holds: "README.md",
    operating_holds: "docs/operating.md",
    the_bridge_holds: "docs/bridge.md",
    the_host_holds: "docs/host.md",
    troubleshooting_holds: "docs/troubleshooting.md",
}
