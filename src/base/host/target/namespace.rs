//! The same question for a namespace that user space drives: the kernel does not know it, so that
//! nobody can have mounted it, but what stands on it may be worth something.

use std::path::{Path, PathBuf};

use super::{Consent, Refusal, RefusalKind, TargetKind, WriteOptions, destroy_covers, quoted, refusal};
use crate::base::host::signature::{self, ReadAt};
use crate::base::units::format_size;

/// A namespace as its controller tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace<'a> {
    /// As the job names it.
    pub name: &'a str,
    /// Model.
    pub model: &'a str,
    /// Serial number.
    pub serial: &'a str,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Whether it may be overwritten.
///
/// # Errors
/// A [`Refusal`]: it holds data, or nobody can tell, and `--destroy` has neither its serial number nor
/// its name.
pub fn check_namespace(
    namespace: &Namespace<'_>,
    options: &WriteOptions<'_>,
    read_at: &mut ReadAt<'_>,
) -> Result<Consent, Refusal> {
    let Namespace { name, model, serial, size_bytes } = *namespace;
    let mut facts = vec![format_size(size_bytes)];
    facts.extend(Some(model).filter(|model| !model.is_empty()).map(str::to_owned));
    facts.extend(Some(serial).filter(|serial| !serial.is_empty()).map(|serial| format!("serial {serial}")));
    let facts = facts.join(", ");
    if size_bytes == 0 {
        let reason = "it has no size: nothing is behind it".to_owned();
        return Err(refusal(RefusalKind::NotATarget, format!("{name} ({facts})"), reason));
    }
    let found = signature::detect(size_bytes, read_at);
    let unreadable = || {
        let error = found.unreadable.as_ref()?;
        Some(format!("may hold anything: reading it failed ({error})"))
    };
    let holds = found.sentence().map(|sentence| format!("holds {sentence}")).or_else(unreadable);
    if let Some(holds) = &holds
        && !destroy_covers(options.destroy, Some(serial), &[Path::new(name)], None)
    {
        let known = if serial.is_empty() { quoted(name) } else { quoted(serial) };
        return Err(Refusal {
            advice: format!("If its data may be destroyed, say so: --destroy={known}"),
            ..refusal(RefusalKind::HoldsData, format!("{name} ({facts})"), format!("it {holds}"))
        });
    }
    let detail = holds.as_deref().map(|holds| format!(", {holds}")).unwrap_or_default();
    Ok(Consent {
        sentence: format!("{name} ({facts}{detail}) will be overwritten"),
        kind: TargetKind::Block,
        canonical: PathBuf::from(name),
        device: None,
        holds,
        claim: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn ask(image: &[u8], destroy: &[&str]) -> Result<Consent, Refusal> {
        let destroy: Vec<String> = destroy.iter().map(|&name| name.to_owned()).collect();
        let namespace = Namespace {
            name: "trtype=PCIe traddr=0000:01:00.0 ns=1",
            model: "M",
            serial: "S 1",
            size_bytes: SIZE,
        };
        let options = WriteOptions { allow_mounted_write: false, destroy: &destroy };
        check_namespace(&namespace, &options, &mut |offset, buffer| {
            let at = usize::try_from(offset).unwrap();
            let there = image.get(at..).unwrap_or_default();
            let count = there.len().min(buffer.len());
            buffer[..count].copy_from_slice(&there[..count]);
            Ok(count)
        })
    }

    #[test]
    fn an_empty_namespace_is_overwritten_after_it_was_named() {
        let consent = ask(&vec![0; SIZE as usize], &[]).unwrap();
        let said = "trtype=PCIe traddr=0000:01:00.0 ns=1 (1MiB, M, serial S 1) will be overwritten";
        assert_eq!(consent.sentence, said);
    }

    #[test]
    fn what_holds_a_file_system_is_left_alone_unless_its_serial_number_is_said() {
        let mut image = vec![0; SIZE as usize];
        image[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        let refusal = ask(&image, &["other"]).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::HoldsData);
        assert!(refusal.to_string().contains("--destroy='S 1'"), "{refusal}");
        assert!(ask(&image, &["S 1"]).unwrap().sentence.contains("holds ext"));
        assert!(ask(&image, &["trtype=PCIe traddr=0000:01:00.0 ns=1"]).is_ok());
    }

    #[test]
    fn what_cannot_be_read_may_hold_anything() {
        let namespace = Namespace { name: "n", model: "", serial: "S", size_bytes: SIZE };
        let refusal = check_namespace(&namespace, &WriteOptions::default(), &mut |_, _| {
            Err(std::io::Error::from_raw_os_error(5))
        });
        assert_eq!(refusal.unwrap_err().kind, RefusalKind::HoldsData);
    }
}
