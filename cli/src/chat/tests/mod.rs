//! What is drawn, as text files that a person can look at: `snapshots/`. To write them anew:
//! `CONCLAVE_SNAPSHOTS=write cargo test -p conclave --lib chat`.

mod scene;

use std::path::Path;

use conclave_core::desk::Place;
use conclave_core::name::{ChannelName, UserName};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use self::scene::Scene;
use super::app::{App, Over};
use super::draw;

const SIZES: [(u16, u16); 4] = [(60, 20), (80, 24), (120, 34), (250, 70)];

fn drawn(app: &mut App, (columns, rows): (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    // What the first one loads, the second one shows.
    for _ in 0..2 {
        terminal.draw(|frame| draw::draw(app, frame)).unwrap();
    }
    terminal
}

/// A wide character takes two cells, of which the second is empty.
fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = super::wrap::width(symbol).saturating_sub(1);
            row.push_str(symbol);
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[track_caller]
fn compare(name: &str, app: &mut App, size: (u16, u16)) {
    let found = text(&drawn(app, size));
    let file = format!("src/chat/tests/snapshots/{name}-{}x{}.txt", size.0, size.1);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("CONCLAVE_SNAPSHOTS").is_some_and(|it| it == "write") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{} differs; it is now:\n{found}", file.display());
}

fn key(app: &mut App, code: KeyCode, modifiers: KeyModifiers) {
    app.terminal(Event::Key(KeyEvent::new(code, modifiers)));
}

fn type_text(app: &mut App, text: &str) {
    text.chars().for_each(|c| key(app, KeyCode::Char(c), KeyModifiers::NONE));
}

fn ops() -> Place {
    Place::Channel(ChannelName::new("ops").unwrap())
}

fn bea() -> Place {
    Place::Person(UserName::new("bea").unwrap())
}

#[test]
fn a_channel_at_every_size() {
    for size in SIZES {
        let mut scene = Scene::new();
        scene.app.open((0, ops()));
        scene.settle();
        compare("channel", &mut scene.app, size);
    }
}

#[test]
fn a_person_at_every_size() {
    for size in SIZES {
        let mut scene = Scene::new();
        scene.app.open((0, bea()));
        scene.settle();
        compare("person", &mut scene.app, size);
    }
}

#[test]
fn what_lies_over_it_at_every_size() {
    for size in SIZES {
        let mut scene = Scene::new();
        scene.app.open((0, ops()));
        scene.settle();
        drawn(&mut scene.app, size);
        key(&mut scene.app, KeyCode::Char('?'), KeyModifiers::NONE);
        compare("help", &mut scene.app, size);
        key(&mut scene.app, KeyCode::Esc, KeyModifiers::NONE);
        key(&mut scene.app, KeyCode::Char('k'), KeyModifiers::CONTROL);
        type_text(&mut scene.app, "e");
        compare("jump", &mut scene.app, size);
        key(&mut scene.app, KeyCode::Esc, KeyModifiers::NONE);
        type_text(&mut scene.app, "/build");
        scene.settle();
        compare("search", &mut scene.app, size);
        key(&mut scene.app, KeyCode::Esc, KeyModifiers::NONE);
        scene.card();
        compare("card-waits", &mut scene.app, size);
        key(&mut scene.app, KeyCode::Char('o'), KeyModifiers::CONTROL);
        compare("card", &mut scene.app, size);
        key(&mut scene.app, KeyCode::Esc, KeyModifiers::NONE);
        key(&mut scene.app, KeyCode::Up, KeyModifiers::CONTROL);
        key(&mut scene.app, KeyCode::Char('i'), KeyModifiers::NONE);
        compare("receipts", &mut scene.app, size);
    }
}

#[test]
fn a_lost_server_and_what_waits_for_it() {
    for size in SIZES {
        let mut scene = Scene::new();
        scene.app.open((0, ops()));
        scene.settle();
        scene.lose();
        type_text(&mut scene.app, "are you there?");
        key(&mut scene.app, KeyCode::Enter, KeyModifiers::NONE);
        type_text(&mut scene.app, "two");
        key(&mut scene.app, KeyCode::Enter, KeyModifiers::ALT);
        type_text(&mut scene.app, "lines");
        compare("lost", &mut scene.app, size);
    }
}

#[test]
fn a_card_is_answered_by_the_key_that_its_box_names_and_by_no_other() {
    let mut scene = Scene::new();
    scene.app.open((0, ops()));
    scene.settle();
    scene.card();
    // A person who types does not allow anything by it.
    type_text(&mut scene.app, "yes y n");
    assert_eq!(scene.answers(), Vec::<String>::new());
    key(&mut scene.app, KeyCode::Char('o'), KeyModifiers::CONTROL);
    assert!(matches!(scene.app.over, Over::Card(..)));
    key(&mut scene.app, KeyCode::Enter, KeyModifiers::NONE);
    assert_eq!(scene.answers(), Vec::<String>::new());
    key(&mut scene.app, KeyCode::Char('y'), KeyModifiers::NONE);
    assert_eq!(scene.answers(), ["yes abcde"]);
}

#[test]
fn what_others_wrote_stands_in_its_columns_and_drives_nothing() {
    let mut scene = Scene::new();
    scene.app.open((0, ops()));
    scene.settle();
    let terminal = drawn(&mut scene.app, (80, 40));
    let buffer = terminal.backend().buffer();
    let is_safe = |cell: &ratatui::buffer::Cell| !cell.symbol().chars().any(conclave_core::text::is_unsafe);
    assert!(buffer.content.iter().all(is_safe));
    // The line between list and conversation is where it is in every row.
    for y in 1..buffer.area.height {
        assert_eq!(buffer[(25, y)].symbol(), "│", "row {y}");
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    let mut scene = Scene::new();
    scene.app.theme.has_color = false;
    scene.app.open((0, ops()));
    scene.settle();
    scene.card();
    let terminal = drawn(&mut scene.app, (120, 34));
    let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(terminal.backend().buffer().content.iter().all(plain));
}

#[test]
fn only_what_is_on_the_screen_is_seen() {
    let mut scene = Scene::new();
    scene.flood(200);
    scene.app.open((0, ops()));
    scene.settle();
    drawn(&mut scene.app, (80, 24));
    let seen = |scene: &mut Scene| {
        scene.settle();
        scene.seen
    };
    let first = seen(&mut scene);
    assert!(first < 100, "{first}");
    key(&mut scene.app, KeyCode::End, KeyModifiers::NONE);
    drawn(&mut scene.app, (80, 24));
    assert!(seen(&mut scene) < 100, "the ones between were not shown");
    // Whoever looks elsewhere sees nothing.
    scene.app.open((0, bea()));
    scene.app.terminal(Event::FocusLost);
    scene.app.open((0, ops()));
    let before = seen(&mut scene);
    for _ in 0..30 {
        key(&mut scene.app, KeyCode::PageDown, KeyModifiers::NONE);
        drawn(&mut scene.app, (80, 24));
    }
    assert_eq!(seen(&mut scene), before);
}

#[test]
fn scrolling_up_and_down_comes_back_to_where_it_was() {
    let mut scene = Scene::new();
    scene.flood(100);
    scene.app.open((0, ops()));
    scene.settle();
    key(&mut scene.app, KeyCode::End, KeyModifiers::NONE);
    // Without the list, which counts down.
    let page = |app: &mut App| {
        let text = text(&drawn(app, (80, 24)));
        text.lines().filter_map(|line| Some(line.split_once('│')?.1.to_owned())).collect::<Vec<_>>()
    };
    let bottom = page(&mut scene.app);
    let mut pages = Vec::new();
    for _ in 0..4 {
        key(&mut scene.app, KeyCode::PageUp, KeyModifiers::NONE);
        pages.push(page(&mut scene.app));
    }
    for before in pages.into_iter().rev() {
        assert_eq!(page(&mut scene.app), before);
        key(&mut scene.app, KeyCode::PageDown, KeyModifiers::NONE);
    }
    assert_eq!(page(&mut scene.app), bottom);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
    #[test]
    fn any_keys_at_any_size_draw_something(
        keys in proptest::collection::vec((0usize..16, proptest::prelude::any::<char>()), 0..40),
        columns in 1u16..140,
        rows in 1u16..50,
    ) {
        let mut scene = Scene::new();
        scene.flood(30);
        scene.app.settle(None);
        for (nth, c) in keys {
            let (code, modifiers) = match nth {
                0 => (KeyCode::Char('k'), KeyModifiers::CONTROL),
                1 => (KeyCode::Char('o'), KeyModifiers::CONTROL),
                2 => (KeyCode::Char('r'), KeyModifiers::CONTROL),
                3 => (KeyCode::Up, KeyModifiers::CONTROL),
                4 => (KeyCode::Down, KeyModifiers::ALT),
                5 => (KeyCode::PageUp, KeyModifiers::NONE),
                6 => (KeyCode::PageDown, KeyModifiers::NONE),
                7 => (KeyCode::Enter, KeyModifiers::NONE),
                8 => (KeyCode::Esc, KeyModifiers::NONE),
                9 => (KeyCode::Tab, KeyModifiers::NONE),
                10 => (KeyCode::Char('/'), KeyModifiers::NONE),
                11 => (KeyCode::Char('i'), KeyModifiers::NONE),
                12 => (KeyCode::Up, KeyModifiers::NONE),
                13 => (KeyCode::Enter, KeyModifiers::ALT),
                14 => (KeyCode::Char('@'), KeyModifiers::NONE),
                _ => (KeyCode::Char(c), KeyModifiers::NONE),
            };
            key(&mut scene.app, code, modifiers);
            scene.settle();
            drawn(&mut scene.app, (columns, rows));
        }
    }
}
