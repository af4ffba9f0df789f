//! How large the gradients of a network's convolutions are, as a table and as a picture.

use plotters::prelude::*;
use serde::Serialize;

use super::curves::{CurvesError, failed};
use super::palette::class_colour;
use crate::table::{Align, Table};

/// Mean absolute gradient below which Wang et al. 2015 call it vanished: a branch is supervised after such a layer.
pub const VANISHED: f64 = 1e-7;

const SIZE_PX: (u32, u32) = (800, 400);

/// The gradient of a convolution's weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerGradient {
    /// Where the convolution stands, `encoder.stages.0.0.convs.0.conv`.
    pub layer: String,
    /// Mean of the absolute values, over all elements of the weight and all iterations.
    pub mean_abs: f64,
}

/// The gradients of the convolutions that the main head depends on, from the input on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientProfile {
    /// Iterations that were trained.
    pub iterations: u64,
    /// The convolutions.
    pub layers: Vec<LayerGradient>,
}

impl GradientProfile {
    /// The layer after which a branch is to be supervised: the last one whose gradient lies below `threshold`, usually
    /// [`VANISHED`]; `None` where no gradient vanishes.
    pub fn vanishing(&self, threshold: f64) -> Option<&LayerGradient> {
        let mut from_the_output = self.layers.iter().rev();
        from_the_output.find(|layer| layer.mean_abs < threshold)
    }

    /// A table of the layers, and what the rule says of them.
    pub fn to_text(&self, threshold: f64) -> String {
        let mut table = Table::new(&[
            ("layer", Align::Left),
            ("mean |gradient|", Align::Right),
            ("", Align::Left),
        ]);
        for layer in &self.layers {
            table.row([
                layer.layer.clone(),
                format!("{:.2e}", layer.mean_abs),
                match layer.mean_abs < threshold {
                    true => format!("below {threshold:e}"),
                    false => String::new(),
                },
            ]);
        }
        let rule = match self.vanishing(threshold) {
            Some(found) => format!("supervise a branch after {}", found.layer),
            None => format!(
                "no gradient falls below {threshold:e}: a branch is not needed for them to arrive"
            ),
        };
        format!("{table}\n{rule}\n")
    }

    /// The profile as SVG: the logarithm of the gradient against the layer, with a line at `threshold`. Gradients of 0 are
    /// left out.
    ///
    /// # Errors
    /// [`CurvesError::NoRecord`] where nothing is left to draw, [`CurvesError::Draw`] otherwise.
    pub fn to_svg(&self, threshold: f64) -> Result<String, CurvesError> {
        let powers = self.layers.iter().map(|layer| layer.mean_abs.log10());
        let points: Vec<(f64, f64)> = (1..)
            .zip(powers)
            .filter(|(_, power)| power.is_finite())
            .map(|(number, power)| (f64::from(number), power))
            .collect();
        if points.is_empty() {
            return Err(CurvesError::NoRecord);
        }
        let line = threshold.log10();
        let (low, high) = points
            .iter()
            .fold((line, line), |(low, high), p| (low.min(p.1), high.max(p.1)));
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE_PX).into_drawing_area();
            root.fill(&WHITE).map_err(failed)?;
            let last = self.layers.len() as f64;
            let mut chart = ChartBuilder::on(&root)
                .caption("mean absolute gradient", ("sans-serif", 20))
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(60)
                .build_cartesian_2d(0.5..last + 0.5, low - 0.5..high + 0.5)
                .map_err(failed)?;
            chart
                .configure_mesh()
                .x_desc("convolution, from the input on")
                .x_label_formatter(&|number| format!("{number:.0}"))
                .y_label_formatter(&|power| format!("1e{power:.1}"))
                .light_line_style(TRANSPARENT)
                .draw()
                .map_err(failed)?;
            let [r, g, b] = class_colour(4);
            let ink = RGBColor(r, g, b);
            let across = [(0.5, line), (last + 0.5, line)];
            chart
                .draw_series(LineSeries::new(across, BLACK.mix(0.5).stroke_width(1)))
                .map_err(failed)?;
            chart
                .draw_series(LineSeries::new(points.clone(), ink.stroke_width(2)))
                .map_err(failed)?;
            let dots = points.into_iter().map(|p| Circle::new(p, 3, ink.filled()));
            chart.draw_series(dots).map_err(failed)?;
            root.present().map_err(failed)?;
        }
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(gradients: &[f64]) -> GradientProfile {
        let layer = |(i, &mean_abs): (usize, &f64)| LayerGradient {
            layer: format!("conv{}", i + 1),
            mean_abs,
        };
        GradientProfile {
            iterations: 10,
            layers: gradients.iter().enumerate().map(layer).collect(),
        }
    }

    #[test]
    fn a_branch_stands_after_the_last_layer_whose_gradient_vanishes() {
        let deep = profile(&[1e-9, 3e-8, 9e-8, 2e-7, 1e-4]);
        assert_eq!(deep.vanishing(VANISHED).unwrap().layer, "conv3");
        let text = deep.to_text(VANISHED);
        assert!(text.contains("supervise a branch after conv3"), "{text}");
        assert_eq!(text.matches("below 1e-7").count(), 3, "{text}");

        let shallow = profile(&[1e-6, 1e-5]);
        assert_eq!(shallow.vanishing(VANISHED), None);
        let text = shallow.to_text(VANISHED);
        assert!(text.contains("no gradient falls below 1e-7"), "{text}");
    }

    #[test]
    fn it_is_drawn_without_what_is_0() {
        let svg = profile(&[0.0, 1e-6, 1e-3]).to_svg(VANISHED).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(profile(&[0.0]).to_svg(VANISHED).is_err());
    }
}
