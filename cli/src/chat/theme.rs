//! Colours: the terminal's own, so that they fit a light and a dark one. `NO_COLOR` leaves bold, faint and reversed text.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) has_color: bool,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    pub(crate) fn faint(self) -> Style {
        if self.has_color {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    pub(crate) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(crate) fn good(self) -> Style {
        self.color(Color::Green)
    }

    pub(crate) fn warn(self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn accent(self) -> Style {
        self.color(Color::Cyan)
    }

    /// A user's colour: the same everywhere.
    pub(crate) fn user(self, name: &str) -> Style {
        const COLORS: [Color; 5] = [Color::Blue, Color::Magenta, Color::Cyan, Color::Green, Color::Red];
        let sum =
            name.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.color(COLORS[sum % COLORS.len()]).add_modifier(Modifier::BOLD)
    }
}
