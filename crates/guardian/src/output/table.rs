//! Tables for people: a bold head, no lines, every cell escaped. Wrapped to the terminal's width; in a pipe a row is a line.

use comfy_table::{Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, presets};

use super::{Mark, line};

/// A table on its way to standard output.
pub(crate) struct Table(comfy_table::Table);

/// One cell.
pub(crate) struct Cell(comfy_table::Cell);

impl<T: ToString> From<T> for Cell {
    fn from(content: T) -> Self {
        Self(comfy_table::Cell::new(line(&content.to_string())))
    }
}

impl Cell {
    /// A cell for what may be missing.
    pub(crate) fn maybe(content: Option<impl ToString>) -> Self {
        content.map_or_else(|| Self::from("-"), Self::from)
    }

    /// A cell whose colour says how it stands.
    pub(crate) fn marked(mark: Option<Mark>, content: impl ToString) -> Self {
        let Self(cell) = Self::from(content);
        Self(match mark {
            Some(Mark::Good) => cell.fg(Color::DarkGreen),
            Some(Mark::Caution) => cell.fg(Color::DarkYellow),
            Some(Mark::Bad) => cell.fg(Color::DarkRed),
            None => cell,
        })
    }

    /// A number, at the right of its column.
    pub(crate) fn number(content: impl ToString) -> Self {
        let Self(cell) = Self::from(content);
        Self(cell.set_alignment(CellAlignment::Right))
    }
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(head.map(|name| comfy_table::Cell::new(name).add_attribute(Attribute::Bold)));
        Self(table)
    }

    /// A table of one thing: a name and a value a row.
    pub(crate) fn of_one(rows: Vec<(&str, Cell)>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        for (name, Cell(value)) in rows {
            table.add_row([comfy_table::Cell::new(name).add_attribute(Attribute::Bold), value]);
        }
        Self(table)
    }

    /// One more row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [Cell; COLUMNS]) {
        self.0.add_row(cells.map(|Cell(cell)| cell));
    }

    pub(super) fn render(mut self, to_terminal: bool) -> String {
        let arrangement = if to_terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        // Always styled: the stream takes the colours out again where they are not wanted.
        self.0.set_content_arrangement(arrangement).enforce_styling().style_text_only();
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // What a row is about, often an id to copy, stays in one piece.
        if let Some(first) = self.0.column_mut(0) {
            first.set_constraint(ColumnConstraint::ContentWidth);
        }
        self.0.lines().fold(String::new(), |text, row| text + row.trim_end() + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_the_table() {
        let mut table = Table::new(["slug", "state"]);
        table.row(["acme\u{1b}[2J\n".into(), "active".into()]);
        let text = anstream::adapter::strip_str(&table.render(false)).to_string();
        insta::assert_snapshot!(text, @r"
        slug             state
        acme\u{1b}[2J\n  active
        ");
    }

    #[test]
    fn a_thing_is_a_name_and_a_value_a_row() {
        let table = Table::of_one(vec![("slug", "acme".into()), ("finished", Cell::maybe(None::<String>))]);
        let text = anstream::adapter::strip_str(&table.render(false)).to_string();
        insta::assert_snapshot!(text, @r"
        slug      acme
        finished  -
        ");
    }
}
