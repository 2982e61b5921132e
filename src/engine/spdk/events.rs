//! Asynchronous events in words (NVMe Base 2.0, figures 146 to 150).

const ERRORS: &[(u8, &str)] = &[
    (0, "a doorbell that does not exist was written"),
    (1, "an invalid value was written to a doorbell"),
    (2, "diagnostic failure"),
    (3, "persistent internal error"),
    (4, "transient internal error"),
    (5, "firmware image load error"),
];

const HEALTH: &[(u8, &str)] = &[
    (0, "NVM subsystem reliability is degraded"),
    (1, "a temperature threshold was crossed"),
    (2, "spare is below its threshold"),
];

const NOTICES: &[(u8, &str)] = &[
    (0, "namespaces have changed"),
    (1, "firmware activation is starting"),
    (2, "the telemetry log has changed"),
    (3, "asymmetric namespace access has changed"),
    (4, "the predictable latency log has changed"),
    (5, "an LBA status information alert"),
    (6, "an endurance group event"),
    (7, "NVM subsystem normal shutdown"),
];

/// What dword 0 of an event's completion says: type in bits 0 to 2, information in 8 to 15, log page
/// in 16 to 23.
pub(super) fn describe(event: u32) -> String {
    let [kind, info, page, _] = event.to_le_bytes();
    let kind = kind & 7;
    let table = match kind {
        0 => ERRORS,
        1 => HEALTH,
        2 => NOTICES,
        _ => &[],
    };
    let name =
        ["error", "health", "notice"].get(usize::from(kind)).copied().unwrap_or("event of another type");
    match table.iter().find(|(code, _)| *code == info) {
        Some((_, text)) => format!("asynchronous event, {name}: {text}"),
        None => format!("asynchronous event, {name}: information {info:02x}h, log page {page:02x}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn events_are_told_in_words_and_unknown_ones_in_numbers() {
        assert_eq!(describe(0x0004_0002), "asynchronous event, notice: namespaces have changed");
        assert_eq!(describe(0x0002_0101), "asynchronous event, health: a temperature threshold was crossed");
        assert_eq!(describe(0x00c0_f002), "asynchronous event, notice: information f0h, log page c0h");
        assert!(describe(0x0000_0007).contains("another type"));
    }
}
