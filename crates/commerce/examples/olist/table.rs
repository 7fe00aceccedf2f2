//! One CSV file, plain or zstd, read row by row. Every error names the file and the row. Knows no table's meaning.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, NaiveDateTime, Utc};
use csv::StringRecord;

use crate::amount::minor_units;

/// One row, with its fields by column name.
pub(crate) struct Row<'a> {
    columns: &'a StringRecord,
    fields: &'a StringRecord,
}

impl Row<'_> {
    /// The field as it stands; may be empty.
    pub(crate) fn text(&self, column: &str) -> Result<&str> {
        let index = self.columns.iter().position(|name| name == column);
        index
            .and_then(|index| self.fields.get(index))
            .with_context(|| format!("no column {column}"))
    }

    /// A field that must not be empty: ids above all.
    pub(crate) fn filled(&self, column: &str) -> Result<String> {
        match self.text(column)? {
            "" => bail!("{column} is empty"),
            text => Ok(text.to_owned()),
        }
    }

    pub(crate) fn amount(&self, column: &str) -> Result<i64> {
        minor_units(self.text(column)?).with_context(|| column.to_owned())
    }

    pub(crate) fn number(&self, column: &str) -> Result<u32> {
        let text = self.text(column)?;
        text.parse()
            .with_context(|| format!("{column} is not a count: {text:?}"))
    }

    /// A moment in `2017-07-09 21:57:05`, which the project takes as UTC; `None` where the field is empty.
    pub(crate) fn time_if_any(&self, column: &str) -> Result<Option<DateTime<Utc>>> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S");
        Ok(Some(
            time.with_context(|| format!("{column} is not a time: {text:?}"))?
                .and_utc(),
        ))
    }

    pub(crate) fn time(&self, column: &str) -> Result<DateTime<Utc>> {
        self.time_if_any(column)?.with_context(|| format!("{column} is empty"))
    }
}

/// Hands every row of `DIR/<name>.csv.zst`, or of `DIR/<name>.csv`, to `take`.
pub(crate) fn read(directory: &Path, name: &str, mut take: impl FnMut(&Row) -> Result<()>) -> Result<()> {
    let (file, input) = open(directory, name)?;
    let mut reader = csv::Reader::from_reader(input);
    let columns = reader.headers().with_context(|| format!("{file}: header"))?.clone();
    let mut fields = StringRecord::new();
    for number in 1_u64.. {
        let more = reader
            .read_record(&mut fields)
            .with_context(|| format!("{file}: row {number}"))?;
        if !more {
            break;
        }
        // Rows and lines differ where a review has line breaks; an editor wants the line.
        let line = fields.position().map_or(0, csv::Position::line);
        take(&Row {
            columns: &columns,
            fields: &fields,
        })
        .with_context(|| format!("{file}: row {number} (line {line})"))?;
    }
    Ok(())
}

/// The file that there is, and its path for messages.
fn open(directory: &Path, name: &str) -> Result<(String, Box<dyn Read>)> {
    let compressed = directory.join(format!("{name}.csv.zst"));
    match File::open(&compressed) {
        Ok(file) => {
            let path = compressed.display().to_string();
            let decoder = zstd::Decoder::new(file).with_context(|| path.clone())?;
            return Ok((path, Box::new(decoder)));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| compressed.display().to_string()),
    }
    let plain = directory.join(format!("{name}.csv"));
    let file = File::open(&plain).with_context(|| format!("{} (nor with .zst)", plain.display()))?;
    Ok((plain.display().to_string(), Box::new(file)))
}
