//! Many questions at once: each p by itself is right in 95 of 100 cases, all of them together are not.

/// The p of each question after the step-down correction of Holm ("A simple sequentially rejective multiple test
/// procedure", *Scandinavian Journal of Statistics* 6, 1979), in the order given.
///
/// Below the level of significance it may be called significant, and the chance that any of the family is so by mistake
/// stays below that level, however the questions depend on each other. Written as adjusted p after Wright (*Biometrics* 48,
/// 1992).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|left, right| p[*left].total_cmp(&p[*right]));
    let mut adjusted = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (step, place) in order.into_iter().enumerate() {
        // Never smaller than that of a question with a smaller p.
        largest = largest.max(p[place] * super::count(p.len() - step)).min(1.0);
        adjusted[place] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_question_has_no_answer_and_one_stays_as_it_is() {
        assert_eq!(holm(&[]), [0.0; 0]);
        assert_eq!(holm(&[0.03]), [0.03]);
    }

    #[test]
    fn the_correction_agrees_with_the_one_made_by_hand() {
        // 0.01 * 4; 0.02 * 3 = 0.06; 0.03 * 2 = 0.06; 0.04 * 1 is below the one before it, so 0.06.
        let found = holm(&[0.04, 0.01, 0.03, 0.02]);
        for (found, expected) in found.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    proptest! {
        #[test]
        fn it_lies_between_no_correction_and_that_of_bonferroni(p in proptest::collection::vec(0.0..1.0, 1..30)) {
            for (p_one, adjusted) in p.iter().zip(holm(&p)) {
                let bonferroni = (p_one * crate::stats::count(p.len())).min(1.0);
                prop_assert!(*p_one <= adjusted && adjusted <= bonferroni);
            }
        }
    }
}
