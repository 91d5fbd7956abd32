//! Reads the equation of `einsum`.

use crate::ops::{bad, misfit};
use crate::problem::{Problem, Result};

/// Labels from here on are axes of an ellipsis, the leftmost first; upper-case letters are 0 to 25, lower-case ones 26 to 51.
const ELLIPSIS: usize = 52;

/// One term of an equation: labels, and where among them an ellipsis stands.
#[derive(Debug, Default)]
struct Term {
    labels: Vec<usize>,
    ellipsis: Option<usize>,
}

/// Labels of the operands' axes and of the output's, for operands of these ranks, as PyTorch reads them.
///
/// # Errors
/// Other characters than letters, `...`, `,`, `->` and spaces; operands that do not fit the equation; output labels that no
/// operand has, or twice.
pub fn equation(text: &str, ranks: &[usize]) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    let (inputs, output) = match text.split_once("->") {
        Some((inputs, output)) => (inputs, Some(output)),
        None => (text, None),
    };
    let terms = inputs.split(',').map(|term| parse(text, term)).collect::<Result<Vec<_>>>()?;
    if terms.len() != ranks.len() {
        let detail = format!("the equation `{text}` is for {} operands, found {}", terms.len(), ranks.len());
        return Err(bad(detail).hint("operands are separated by commas in the equation"));
    }
    // axes that the ellipsis of each operand stands for
    let mut widths = Vec::with_capacity(terms.len());
    for (number, (term, rank)) in terms.iter().zip(ranks).enumerate() {
        let labels = term.labels.len();
        if *rank < labels || (term.ellipsis.is_none() && *rank != labels) {
            let detail = format!("in `{text}` operand {number} has {labels} labels, the tensor has {rank} axes");
            return Err(misfit(detail).hint("every axis has a letter, or `...` stands for those without"));
        }
        widths.push(rank - labels);
    }
    let widest = widths.iter().copied().max().unwrap_or(0);
    let operands: Vec<Vec<usize>> =
        terms.iter().zip(&widths).map(|(term, width)| term.spelled(widest - width..widest)).collect();
    let output = match output {
        Some(output) => explicit(text, &parse(text, output)?, &terms, widest)?,
        None => implicit(&terms, widest),
    };
    Ok((operands, output))
}

impl Term {
    /// All labels, with these axes in place of the ellipsis.
    fn spelled(&self, axes: std::ops::Range<usize>) -> Vec<usize> {
        let mut labels = self.labels.clone();
        if let Some(at) = self.ellipsis {
            labels.splice(at..at, axes.map(|axis| ELLIPSIS + axis));
        }
        labels
    }
}

fn parse(text: &str, term: &str) -> Result<Term> {
    let mut found = Term::default();
    let mut chars = term.chars();
    while let Some(c) = chars.next() {
        match c {
            'A'..='Z' => found.labels.push(c as usize - 'A' as usize),
            'a'..='z' => found.labels.push(c as usize - 'a' as usize + 26),
            ' ' => {}
            '.' if found.ellipsis.is_none() && chars.next() == Some('.') && chars.next() == Some('.') => {
                found.ellipsis = Some(found.labels.len());
            }
            c => return Err(unreadable(text, &format!("`{c}` is out of place"))),
        }
    }
    Ok(found)
}

fn unreadable(text: &str, why: &str) -> Problem {
    bad(format!("the equation `{text}` cannot be read: {why}"))
        .hint("letters name axes, `...` stands for the others, as in \"bij,bjk->bik\"")
}

fn explicit(text: &str, output: &Term, terms: &[Term], widest: usize) -> Result<Vec<usize>> {
    for (i, label) in output.labels.iter().enumerate() {
        let letter = char::from(if *label < 26 { b'A' + *label as u8 } else { b'a' + (*label - 26) as u8 });
        if output.labels[..i].contains(label) {
            return Err(unreadable(text, &format!("the output has `{letter}` twice")));
        }
        if !terms.iter().any(|term| term.labels.contains(label)) {
            return Err(unreadable(text, &format!("no operand has the output's `{letter}`")));
        }
    }
    Ok(output.spelled(0..widest))
}

/// The axes of the ellipsis, and the labels that stand once, in order.
fn implicit(terms: &[Term], widest: usize) -> Vec<usize> {
    let mut counts = [0usize; ELLIPSIS];
    terms.iter().flat_map(|term| &term.labels).for_each(|label| counts[*label] += 1);
    let once = (0..ELLIPSIS).filter(|label| counts[*label] == 1);
    (0..widest).map(|axis| ELLIPSIS + axis).chain(once).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pytorch_reads() {
        assert_eq!(equation("ba", &[2]).unwrap().1, [26, 27]);
        assert_eq!(equation("aB , B c", &[2, 2]).unwrap().1, [26, 28]);
        assert_eq!(equation("ii->i", &[2]).unwrap(), (vec![vec![34, 34]], vec![34]));
        let (operands, output) = equation("i...,...j", &[3, 2]).unwrap();
        assert_eq!(operands, [vec![34, 52, 53], vec![53, 35]]);
        assert_eq!(output, [52, 53, 34, 35]);
        assert_eq!(equation("...i->i", &[3]).unwrap().1, [34]);
        assert_eq!(equation("->", &[0]).unwrap(), (vec![vec![]], vec![]));
    }

    #[test]
    fn refuses_what_pytorch_refuses() {
        for (text, ranks) in [
            ("i1", &[2][..]),
            ("i.j", &[2]),
            ("i...j...", &[3]),
            ("ij", &[3]),
            ("ij", &[1]),
            ("i,j", &[1]),
            ("i->j", &[1]),
            ("i->ii", &[1]),
            ("i->i->i", &[1]),
            ("i-", &[1]),
            ("é", &[1]),
        ] {
            assert!(equation(text, ranks).is_err(), "{text}");
        }
    }
}
