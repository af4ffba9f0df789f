//! How well classes are told.

use serde_json::{Value, json};

/// Classes that a second score looks at.
const FEW: usize = 5;

/// Counts over images whose class is known.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Images of each class (row) that were taken for each class (column).
    pub confusion: Vec<Vec<usize>>,
    /// Images of each class that were taken for none: a logit was no finite number.
    pub undecided: Vec<usize>,
    /// Images whose class was among the five most probable.
    among_few: usize,
    /// Sum of -log of the probability of the true class.
    entropy: f64,
}

impl Scores {
    /// No image yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self {
            confusion: vec![vec![0; classes]; classes],
            undecided: vec![0; classes],
            among_few: 0,
            entropy: 0.0,
        }
    }

    /// Counts an image of class `truth` with these logits; gives the class that it is taken for, `None` where a logit is
    /// no finite number.
    pub fn add(&mut self, truth: usize, logits: &[f32]) -> Option<usize> {
        let Some(found) = most_probable(logits) else {
            self.undecided[truth] += 1;
            self.entropy = f64::NAN;
            return None;
        };
        self.confusion[truth][found] += 1;
        let better = logits.iter().filter(|&&v| v > logits[truth]).count();
        self.among_few += usize::from(better < FEW);
        let largest = f64::from(logits[found]);
        let total: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
        self.entropy += total.ln() + largest - f64::from(logits[truth]);
        Some(found)
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        (0..self.confusion.len()).map(|c| self.images_of(c)).sum()
    }

    /// Number of images of a class.
    pub fn images_of(&self, class: usize) -> usize {
        self.confusion[class].iter().sum::<usize>() + self.undecided[class]
    }

    /// Share of the images whose class had the largest probability; 0 where there is no image.
    pub fn accuracy(&self) -> f64 {
        let hits = (0..self.confusion.len()).map(|c| self.confusion[c][c]);
        share(hits.sum(), self.images())
    }

    /// Share of those whose class was among the five most probable; `None` where there are no more than five classes.
    pub fn top5(&self) -> Option<f64> {
        let is_telling = self.confusion.len() > FEW;
        is_telling.then(|| share(self.among_few, self.images()))
    }

    /// Mean cross-entropy; `None` where a logit was no number.
    pub fn loss(&self) -> Option<f64> {
        let loss = self.entropy / self.images().max(1) as f64;
        loss.is_finite().then_some(loss)
    }

    /// Share of the images of a class that are taken for it; `None` where it has none.
    pub fn of_class(&self, class: usize) -> Option<f64> {
        let images = self.images_of(class);
        (images > 0).then(|| share(self.confusion[class][class], images))
    }

    /// All of it, with the names of the classes.
    pub fn to_json(&self, classes: &[String]) -> Value {
        let each = classes.iter().enumerate().map(|(c, name)| {
            json!({"name": name, "images": self.images_of(c), "accuracy": self.of_class(c)})
        });
        json!({
            "images": self.images(),
            "accuracy": self.accuracy(),
            "top5": self.top5(),
            "loss": self.loss(),
            "classes": each.collect::<Vec<_>>(),
            "confusion": self.confusion,
            "undecided": self.undecided,
        })
    }
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

/// The first class with the largest logit; `None` where one is no finite number.
pub(super) fn most_probable(logits: &[f32]) -> Option<usize> {
    if !logits.iter().all(|v| v.is_finite()) {
        return None;
    }
    let better = |best: usize, c: usize| if logits[c] > logits[best] { c } else { best };
    (0..logits.len()).reduce(better)
}

/// softmax of finite logits.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let exponentials: Vec<f64> = logits
        .iter()
        .map(|&v| (f64::from(v) - largest).exp())
        .collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_counted_by_truth_and_by_what_they_were_taken_for() {
        let mut scores = Scores::new(3);
        assert_eq!(scores.add(0, &[2.0, 1.0, 0.0]), Some(0));
        assert_eq!(scores.add(0, &[0.0, 1.0, 0.5]), Some(1));
        assert_eq!(scores.add(2, &[0.0, 0.0, 9.0]), Some(2));
        assert_eq!(scores.confusion, [[1, 1, 0], [0, 0, 0], [0, 0, 1]]);
        assert!((scores.accuracy() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(
            [0, 1, 2].map(|c| scores.of_class(c)),
            [Some(0.5), None, Some(1.0)]
        );
        assert_eq!(scores.top5(), None);
        let entropy = |logits: &[f32], t: usize| -probabilities(logits)[t].ln();
        let expected = entropy(&[2.0, 1.0, 0.0], 0)
            + entropy(&[0.0, 1.0, 0.5], 0)
            + entropy(&[0.0, 0.0, 9.0], 2);
        assert!((scores.loss().unwrap() - expected / 3.0).abs() < 1e-9);
    }

    #[test]
    fn logits_that_are_no_numbers_are_no_hit() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut scores = Scores::new(7);
            // The last class: a search for the largest that passes over NaN would end there.
            assert_eq!(scores.add(6, &[bad; 7]), None);
            assert_eq!(scores.add(0, &[bad, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), None);
            assert_eq!(scores.add(1, &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), Some(1));
            assert_eq!((scores.images(), scores.loss()), (3, None));
            assert_eq!(scores.accuracy(), 1.0 / 3.0);
            assert_eq!(scores.top5(), Some(1.0 / 3.0));
            assert_eq!(scores.of_class(6), Some(0.0));
        }
    }

    #[test]
    fn the_five_best_count_where_there_are_more_classes() {
        let mut scores = Scores::new(7);
        let logits = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        scores.add(4, &logits);
        scores.add(5, &logits);
        assert_eq!(scores.top5(), Some(0.5));
        assert_eq!(scores.accuracy(), 0.0);
    }
}
