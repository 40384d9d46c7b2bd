use super::*;
use crate::log::{ExpertLoad, HeldOut, Record, Step};

fn run(label: &str, floor: f64) -> Run {
    let mut records = Vec::new();
    for step in 1..=1000u64 {
        let loss = floor + 6.0 * (-(step as f64) / 120.0).exp() + 0.05 * ((step * 7919) % 13) as f64 / 13.0;
        let experts = Some(ExpertLoad { most: 1.0 + 2.0 / step as f64, least: 1.0 - 0.9 / step as f64 });
        records.push(Record::Step(Step {
            step,
            loss,
            exit_loss: Some(loss + 0.4),
            experts,
            ..Step::default()
        }));
        if step.is_multiple_of(100) {
            records.push(Record::HeldOut(HeldOut { step, bits_per_byte: loss / 2.8, ..HeldOut::default() }));
        }
    }
    Run { label: label.into(), records }
}

#[test]
fn curves_become_panels() {
    let runs = [run("dense <float>", 3.0), run("ternary", 3.2)];
    let found = panels(&runs);
    assert_eq!(found.iter().map(|panel| panel.curves.len()).collect::<Vec<_>>(), [2, 2, 2, 4]);
    assert_eq!((found[0].curves[0].points.len(), found[1].curves[1].points.len()), (200, 10));
    let picture = svg(&runs, "Two runs");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(
        picture.contains("dense &lt;float&gt;")
            && picture.contains("bits a byte")
            && !picture.contains("NaN")
    );
    if let Some(folder) = std::env::var_os("CHALOT_PLOT_TEST") {
        std::fs::write(std::path::Path::new(&folder).join("two.svg"), &picture).unwrap();
        std::fs::write(std::path::Path::new(&folder).join("one.svg"), svg(&runs[..1], "One run")).unwrap();
        std::fs::write(std::path::Path::new(&folder).join("two.txt"), terminal(&runs, 90, false)).unwrap();
    }
}

#[test]
fn lines_fit_the_terminal() {
    for width in [40, 80, 120] {
        for runs in [&[run("a", 3.0)][..], &[run("a", 3.0), run("b", 2.0), run("c", 3.01)], &[]] {
            let text = terminal(runs, width, false);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(longest <= width.max(44), "{longest} of {width}:\n{text}");
            assert_eq!(text.is_empty(), runs.is_empty());
        }
    }
    assert!(terminal(&[run("a", 3.0)], 80, true).contains("\x1b[36m"));
}

#[test]
fn a_run_of_one_step_is_drawn() {
    let records = vec![Record::Step(Step { step: 1, loss: 2.0, ..Step::default() })];
    let runs = [Run { label: "a".into(), records }];
    assert!(svg(&runs, "").contains("2.000") && terminal(&runs, 80, false).contains("2.000"));
    let nothing = [Run { label: "a".into(), records: vec![] }];
    assert!(svg(&nothing, "").contains("</svg>") && terminal(&nothing, 80, false).is_empty());
}
