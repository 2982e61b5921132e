//! What must hold between the options of triggers.

use super::issue;
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    let trigger = &draft.job.trigger;
    if trigger.command.is_some() && trigger.remote.is_some() {
        issues.push(issue(
            draft.place("trigger_remote"),
            "`trigger` and `trigger_remote` do not go together: one command cuts the power, on the client or on \
             the server",
            "leave out one of them",
        ));
    }
}
