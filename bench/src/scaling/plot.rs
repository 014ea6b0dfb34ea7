//! Plots throughput and latency against the number of workers.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Row;

/// Draws the table as SVG.
pub(super) fn draw(rows: &[Row], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (960, 400)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let (left, right) = area.split_horizontally(480);
    let workers: Vec<f64> = rows.iter().map(|row| row.workers as f64).collect();
    let throughput: Vec<f64> = rows.iter().map(|row| row.jobs_per_second.median).collect();
    let ideal: Vec<f64> =
        workers.iter().map(|workers| workers * throughput[0] / workers_of(rows)).collect();
    let latency: Vec<f64> = rows.iter().map(|row| row.latency.median).collect();
    let bound: Vec<f64> = rows.iter().map(|row| row.least_latency).collect();
    let panels = [
        (left, "throughput (jobs/s)", [("measured", throughput), ("linear", ideal)]),
        (right, "latency of one job alone (s)", [("measured", latency), ("compute only", bound)]),
    ];
    for (area, title, lines) in panels {
        let values = || lines.iter().flat_map(|(_, values)| values.iter().copied());
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        let last = workers.last().copied().unwrap_or(1.0);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(
                (workers[0]..last * 1.1).log_scale().base(2.0),
                (low * 0.8..high * 1.25).log_scale(),
            )
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .x_desc("workers")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()
            .map_err(|error| failed(&error))?;
        for ((name, values), colour) in lines.into_iter().zip([BLUE, RGBColor(128, 128, 128)]) {
            let points: Vec<(f64, f64)> = workers.iter().copied().zip(values).collect();
            let line = LineSeries::new(points.clone(), colour.stroke_width(2));
            chart.draw_series(line).map_err(|error| failed(&error))?.label(name).legend(
                move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)),
            );
            let dots = points.into_iter().map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots).map_err(|error| failed(&error))?;
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE)
            .draw()
            .map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

fn workers_of(rows: &[Row]) -> f64 {
    rows.first().map_or(1.0, |row| row.workers as f64)
}
