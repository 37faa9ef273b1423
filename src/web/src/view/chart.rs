//! Charts as SVG with attributes only: the ROC curve and the confusion matrix of a ClassificationMetrics artifact.

use serde_json::{Map, Value};

/// A confusion matrix, rows true, columns guessed.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) labels: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

/// A row of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) cells: Vec<Cell>,
}

/// A cell: what it says and how strong it is, 0 to 4.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) level: u8,
}

/// A ROC curve in a field of 300 by 270 at (40, 10).
#[derive(Debug, Clone)]
pub(crate) struct Roc {
    pub(crate) path: String,
    pub(crate) area: String,
}

/// More classes than a page can show as a table.
const LABELS_MAX: usize = 30;

/// Source: KFP `ClassificationMetrics`: `confusionMatrix {annotationSpecs[{displayName}], rows[{row[]}]}`.
pub(crate) fn matrix(metadata: &Map<String, Value>) -> Option<Matrix> {
    let matrix = metadata.get("confusionMatrix")?;
    let labels: Vec<String> = matrix["annotationSpecs"]
        .as_array()?
        .iter()
        .map(|one| one["displayName"].as_str().unwrap_or_default().to_owned())
        .collect();
    let values: Vec<Vec<f64>> = matrix["rows"]
        .as_array()?
        .iter()
        .map(|row| row["row"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
        .collect();
    if labels.is_empty() || labels.len() > LABELS_MAX || values.len() != labels.len() {
        return None;
    }
    let rows = values.iter().zip(&labels).map(|(row, label)| {
        let sum: f64 = row.iter().sum();
        let cells = row.iter().map(|value| {
            let share = if sum > 0.0 { value / sum } else { 0.0 };
            let level = if *value == 0.0 { 0 } else { 1 + (share * 3.0).clamp(0.0, 3.0) as u8 };
            Cell { text: if *value == 0.0 { String::new() } else { format!("{value}") }, level: level.min(4) }
        });
        Row { label: label.clone(), cells: cells.collect() }
    });
    Some(Matrix { rows: rows.collect(), labels })
}

/// Source: KFP `ClassificationMetrics`: `confidenceMetrics [{falsePositiveRate, recall}]`.
pub(crate) fn roc(metadata: &Map<String, Value>) -> Option<Roc> {
    let mut points: Vec<(f64, f64)> = metadata
        .get("confidenceMetrics")?
        .as_array()?
        .iter()
        .filter_map(|one| Some((one["falsePositiveRate"].as_f64()?, one["recall"].as_f64()?)))
        .filter(|(x, y)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
    if points.len() < 2 {
        return None;
    }
    let area: f64 = points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum();
    let place = |(x, y): &(f64, f64)| format!("{:.1} {:.1}", 40.0 + 300.0 * x, 280.0 - 270.0 * y);
    Some(Roc {
        path: format!("M{}", points.iter().map(place).collect::<Vec<_>>().join("L")),
        area: format!("{area:.4}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn charts_are_drawn_from_what_the_sdk_logs() {
        let metadata = json!({
            "confusionMatrix": {"annotationSpecs": [{"displayName": "a"}, {"displayName": "b"}], "rows": [{"row": [5, 0]}, {"row": [1, 3]}]},
            "confidenceMetrics": [
                {"confidenceThreshold": 1, "falsePositiveRate": 0, "recall": 0},
                {"confidenceThreshold": 0.5, "falsePositiveRate": 0, "recall": 1},
                {"confidenceThreshold": 0, "falsePositiveRate": 1, "recall": 1}
            ],
        });
        let metadata = metadata.as_object().expect("an object");
        let matrix = matrix(metadata).expect("a matrix");
        assert_eq!(matrix.rows[1].cells.iter().map(|cell| cell.text.as_str()).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(roc(metadata).expect("a curve").area, "1.0000");
        assert!(super::matrix(&Map::new()).is_none());
    }
}
