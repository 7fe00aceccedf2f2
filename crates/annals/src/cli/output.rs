//! Listings: rows of JSON objects shown as a table, as JSON lines or as CSV. Knows nothing of what it lists.

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, LineStyle, Row, Table, TableStyle};
use serde_json::Value;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Rows of one table; a longer listing is shown as several, so that memory stays bounded.
const TABLE_ROWS_MAX: usize = 500;
/// Longest text in a cell of a table; JSON and CSV show all of it.
const CELL_CHARS_MAX: usize = 100;
/// Columns of a terminal that does not say how many it has.
const WIDTH_UNKNOWN: u16 = 80;
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Our output, which tells a reader that has gone from any other pipe or connection that breaks.
pub(crate) struct Stdout(io::Stdout);

impl Stdout {
    pub(crate) fn new() -> Self {
        Self(io::stdout())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(reader_gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(reader_gone)
    }
}

/// Whoever read our output has seen enough.
#[derive(Debug, thiserror::Error)]
#[error("whoever read the output has gone")]
struct ReaderGone;

/// The error of writing to stdout, marked if it says that nobody reads it any more.
pub(crate) fn reader_gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// Whether this is such an error.
pub(crate) fn is_reader_gone(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReaderGone>())
}

/// How a listing is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; long texts are cut.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated, with a header line.
    Csv,
}

/// The option `--format`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FormatArg {
    /// How to show what is listed [default: table on a terminal, else json: one object a line]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

impl FormatArg {
    /// The format asked for, else the one that suits where stdout goes.
    pub(crate) fn resolve(&self) -> Format {
        let fitting = if io::stdout().is_terminal() {
            Format::Table
        } else {
            Format::Json
        };
        self.format.unwrap_or(fitting)
    }
}

/// A listing under way. Rows go out as they come, except to a table.
pub(crate) struct Listing {
    out: Box<dyn Write>,
    columns: Vec<String>,
    shape: Shape,
    fit: Fit,
}

/// How rows of a table fit into the width of a terminal.
#[derive(Debug, Clone, Copy)]
enum Fit {
    /// What is too long goes on in the next line.
    Wrapped,
    /// What is too long is cut, but not in the first so many columns.
    Cut { whole_columns: usize },
}

enum Shape {
    Table { rows: Vec<Vec<String>>, headed: bool },
    Json,
    Csv { headed: bool },
}

impl Listing {
    /// A listing on stdout. `columns` are the fields shown in tables and CSV, dots leading into objects: `row.status`.
    pub(crate) fn stdout(format: Format, columns: &[&str]) -> Self {
        Self::to(Box::new(BufWriter::new(Stdout::new())), format, columns)
    }

    /// The listing with one line a row where it is a table: on a terminal long cells are cut, but not in the first so
    /// many columns.
    pub(crate) fn one_line_a_row(mut self, whole_columns: usize) -> Self {
        self.fit = Fit::Cut { whole_columns };
        self
    }

    fn to(out: Box<dyn Write>, format: Format, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        let shape = match format {
            Format::Table => Shape::Table {
                rows: Vec::new(),
                headed: false,
            },
            Format::Json => Shape::Json,
            Format::Csv => Shape::Csv { headed: false },
        };
        let fit = Fit::Wrapped;
        Self {
            out,
            columns,
            shape,
            fit,
        }
    }

    /// One row, a JSON object.
    pub(crate) fn row(&mut self, row: &Value) -> io::Result<()> {
        match &mut self.shape {
            Shape::Json => writeln!(self.out, "{row}"),
            Shape::Csv { .. } => {
                self.csv_header()?;
                let cells: Vec<String> = self.columns.iter().map(|column| text(find(row, column))).collect();
                self.csv(&cells)
            }
            Shape::Table { rows, .. } => {
                rows.push(
                    self.columns
                        .iter()
                        .map(|column| cut(&text(find(row, column))))
                        .collect(),
                );
                if rows.len() >= TABLE_ROWS_MAX {
                    self.show()
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Shows what there is so far.
    pub(crate) fn show(&mut self) -> io::Result<()> {
        if let Shape::Table { rows, headed } = &mut self.shape
            && !rows.is_empty()
        {
            *headed = true;
            let rows = std::mem::take(rows);
            writeln!(self.out, "{}", table(&self.columns, rows, self.fit).trim_fmt())?;
        }
        self.out.flush()
    }

    /// Shows the rest. A table or CSV without rows has its header.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.csv_header()?;
        if let Shape::Table { rows, headed: false } = &self.shape
            && rows.is_empty()
        {
            writeln!(self.out, "{}", table(&self.columns, Vec::new(), self.fit).trim_fmt())?;
        }
        self.show()
    }

    fn csv_header(&mut self) -> io::Result<()> {
        if let Shape::Csv { headed: headed @ false } = &mut self.shape {
            *headed = true;
            let columns = self.columns.clone();
            self.csv(&columns)?;
        }
        Ok(())
    }

    fn csv(&mut self, cells: &[String]) -> io::Result<()> {
        let mut writer = csv::WriterBuilder::new().from_writer(&mut self.out);
        writer.write_record(cells).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        })?;
        writer.flush()
    }
}

fn table(columns: &[String], rows: Vec<Vec<String>>, fit: Fit) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let header = columns.iter().map(|column| {
        let cell = Cell::new(column.rsplit('.').next().unwrap_or(column));
        if super::colours(&io::stdout()) {
            cell.add_attribute(Attribute::Bold)
        } else {
            cell
        }
    });
    let mut header = Row::from(header.collect::<Vec<_>>());
    if matches!(fit, Fit::Cut { .. }) {
        header.max_height(1);
    }
    table.set_header(header);
    table.add_rows(rows);
    // Some terminals do not know how wide they are.
    if table.width() == Some(0) || (table.is_tty() && table.width().is_none()) {
        table.set_width(WIDTH_UNKNOWN);
    }
    if let Fit::Cut { whole_columns } = fit {
        cut_rows(&mut table, whole_columns);
    }
    table
}

/// Makes every row one line.
fn cut_rows(table: &mut Table, whole_columns: usize) {
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
    for column in table.column_iter_mut().take(whole_columns) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// The columns for rows that stand under `row`: their fields, in the order in which they come first.
pub(crate) fn columns_of<'a>(rows: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for field in rows.filter_map(Value::as_object).flat_map(|row| row.keys()) {
        let column = format!("row.{field}");
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn find<'a>(row: &'a Value, column: &str) -> &'a Value {
    column
        .split('.')
        .fold(row, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// A value as the text of a cell: texts without quotes, nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(format: Format, rows: &[Value]) -> String {
        let sink = Sink::default();
        let mut listing = Listing::to(Box::new(sink.clone()), format, &["key", "row.note"]);
        rows.iter().for_each(|row| listing.row(row).unwrap());
        listing.finish().unwrap();
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_same_rows_are_shown_in_three_ways() {
        let rows = [
            json!({"key": "a", "row": {"note": "x, \"y\""}}),
            json!({"key": "b", "row": null}),
        ];
        assert_eq!(shown(Format::Csv, &rows), "key,row.note\na,\"x, \"\"y\"\"\"\nb,\n");
        assert_eq!(
            shown(Format::Json, &rows),
            "{\"key\":\"a\",\"row\":{\"note\":\"x, \\\"y\\\"\"}}\n{\"key\":\"b\",\"row\":null}\n"
        );
        let table = shown(Format::Table, &rows);
        assert!(
            table.contains("key") && table.contains("note") && table.contains("x, \"y\""),
            "{table}"
        );
    }

    #[test]
    fn a_listing_without_rows_still_has_its_header() {
        assert_eq!(shown(Format::Csv, &[]), "key,row.note\n");
        assert_eq!(shown(Format::Json, &[]), "");
        assert!(shown(Format::Table, &[]).contains("note"));
    }

    #[test]
    fn a_row_that_is_cut_is_one_line_and_keeps_its_first_columns() {
        let columns = ["position", "time", "subject", "data"].map(str::to_owned);
        let row = [
            "12",
            "2017-10-02T10:56:33Z",
            "orders/8272b63d03f5f79c56e9e4120aec44ef",
            "{\"a\": 1}",
        ];
        let rows = || vec![row.map(str::to_owned).to_vec(); 2];
        let mut cut = table(&columns, rows(), Fit::Cut { whole_columns: 2 });
        let shown = cut.set_width(60).trim_fmt();
        assert_eq!(shown.lines().count(), 4, "a header, a line and two rows:\n{shown}");
        assert!(shown.contains("2017-10-02T10:56:33Z") && shown.contains('…'), "{shown}");
        let mut wrapped = table(&columns, rows(), Fit::Wrapped);
        assert!(wrapped.set_width(60).trim_fmt().lines().count() > 4);
    }

    #[test]
    fn a_long_text_is_cut_in_a_table_only() {
        let long = "é".repeat(300);
        let rows = [json!({"key": long})];
        assert!(!shown(Format::Table, &rows).contains(&long));
        assert!(shown(Format::Csv, &rows).contains(&long));
    }
}
