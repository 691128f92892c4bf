//! Rows of figures, printed as a table or as JSON.

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Smallest of the rounds.
    pub minimum: f64,
    /// Middle of the rounds.
    pub median: f64,
    /// Largest of the rounds.
    pub maximum: f64,
    /// Unit of all three.
    pub unit: &'static str,
    /// What the row should be read beside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// All figures of one benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The benchmark.
    pub benchmark: &'static str,
    /// Processors of this machine.
    pub cores: usize,
    /// Rounds behind each row.
    pub rounds: usize,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(benchmark: &'static str, rounds: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { benchmark, cores, rounds, rows: Vec::new() }
    }

    /// Adds a row from the figures of all rounds.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, mut figures: Vec<f64>) {
        figures.sort_by(f64::total_cmp);
        let (Some(&minimum), Some(&maximum)) = (figures.first(), figures.last()) else { return };
        let median = figures[figures.len() / 2];
        let (name, note) = (name.into(), String::new());
        self.rows.push(Row { name, minimum, median, maximum, unit, note });
    }

    /// Explains the last row.
    pub fn note(&mut self, note: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.note = note.into();
        }
    }

    /// The report as text for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} ({} cores, {} rounds; minimum, median, maximum)\n",
            self.benchmark, self.cores, self.rounds
        );
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &self.rows {
            text.push_str(&format!(
                "  {:<width$}  {:>10.2} {:>10.2} {:>10.2} {:<10} {}\n",
                row.name, row.minimum, row.median, row.maximum, row.unit, row.note
            ));
        }
        text
    }
}
