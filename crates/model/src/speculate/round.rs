//! One round: drafts, and how far they were right.
use super::DraftFilter;
use super::controller::Outcome;
use super::pupil::Class;
use super::verify::Proposal;

/// The state of a round. Row r of its logits follows the token it began with and the first r drafts.
#[derive(Default)]
pub(super) struct Round {
    /// The drafts.
    pub drafts: Vec<u32>,
    /// What speaks for each.
    pub classes: Vec<Class>,
    /// Where drafts are accepted by rejection: what each was drawn from.
    pub proposals: Vec<Proposal>,
    /// The token it began with and the drafts.
    pub tokens: Vec<u32>,
    /// Rows from which a token was chosen, and the last of these tokens.
    pub chosen: usize,
    pub last: u32,
    /// For those who learn from it.
    pub outcome: Outcome,
}

impl Round {
    /// Ready for the next one; buffers stay.
    pub fn reset(&mut self) {
        self.drafts.clear();
        self.classes.clear();
        self.proposals.clear();
        self.chosen = 0;
        let mut compared = std::mem::take(&mut self.outcome.compared);
        compared.clear();
        self.outcome = Outcome { compared, ..Outcome::default() };
    }

    /// Whether `next`, chosen last, was the draft at its place, so that the logits after it are there.
    pub fn has_logits_after(&self, next: u32) -> bool {
        self.chosen.checked_sub(1).and_then(|place| self.drafts.get(place)) == Some(&next)
    }

    /// A token was chosen from the next row.
    pub fn take(&mut self, token: u32) {
        if let (Some(&draft), Some(&class)) = (self.drafts.get(self.chosen), self.classes.get(self.chosen)) {
            self.outcome.compared.push((class, draft == token));
        }
        self.chosen += 1;
        self.last = token;
        self.outcome.tokens += 1;
    }

    /// Passes every draft through `filter`; the first is at `position`. Ends before a token that the vocabulary does not have.
    pub fn filter(&mut self, position: usize, vocab: usize, filter: &mut Option<DraftFilter>) {
        let Some(filter) = filter else { return };
        for index in 0..self.drafts.len() {
            let token = filter(position + index, self.drafts[index]);
            if token as usize >= vocab {
                self.drafts.truncate(index);
                self.classes.truncate(index);
                self.proposals.truncate(index);
                return;
            }
            if token != self.drafts[index] {
                self.drafts[index] = token;
                if let Some(proposal) = self.proposals.get_mut(index) {
                    *proposal = Proposal::certain(token);
                }
            }
        }
    }
}
