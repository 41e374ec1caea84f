//! The table that is printed at the end.

use std::fmt::Write as _;

/// Collected rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    ours: String,
    theirs: String,
    ratio: String,
    goal: String,
}

/// Which way is better.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Better {
    /// A rate.
    More,
    /// A cost or a time.
    Less,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a row: our figure, the peer's where it was measured, and what was to be reached.
    pub(crate) fn add(
        &mut self,
        name: &str,
        unit: &str,
        figures: (f64, Option<f64>),
        better: Better,
        goal: &str,
    ) {
        let (ours, theirs) = figures;
        let ratio = theirs.map_or_else(String::new, |theirs| match better {
            Better::More => format!("{:.2}×", ours / theirs),
            Better::Less => format!("1/{:.1}", theirs / ours),
        });
        let row = Row {
            name: name.to_owned(),
            ours: format!("{} {unit}", short(ours)),
            theirs: theirs.map_or_else(|| "–".to_owned(), |theirs| format!("{} {unit}", short(theirs))),
            ratio,
            goal: goal.to_owned(),
        };
        eprintln!(
            "  {:<58} {:>16} {:>16} {:>8}  {}",
            row.name, row.ours, row.theirs, row.ratio, row.goal
        );
        self.rows.push(row);
    }

    /// Prints the whole table as Markdown.
    pub(crate) fn print(&self) {
        let mut table =
            String::from("| measurement | Alyx | peer | ratio | to reach |\n|---|--:|--:|--:|---|\n");
        for row in &self.rows {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} |",
                row.name, row.ours, row.theirs, row.ratio, row.goal
            );
        }
        println!("\n{table}");
    }
}

fn short(figure: f64) -> String {
    match figure {
        f if f >= 10_000.0 => format!("{:.1}k", f / 1000.0),
        f if f >= 100.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The value below which `share` of the sorted figures lie.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
