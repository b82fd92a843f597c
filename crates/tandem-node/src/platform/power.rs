//! Whether the machine runs on its battery.

use std::path::Path;

use super::load::Unmeasured;

/// Supplies looked at: more are nobody's.
const SUPPLIES_MAX: usize = 32;

/// What the system says of one power supply (Linux: `Documentation/ABI/testing/sysfs-class-power`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Supply {
    kind: String,
    /// `Device`: of a mouse or a headset.
    scope: String,
    online: String,
    status: String,
}

/// Whether it does; a machine without a battery does not.
///
/// # Errors
/// This system is not asked.
pub fn on_battery() -> Result<bool, Unmeasured> {
    if !cfg!(target_os = "linux") {
        return Err(Unmeasured("only Linux is asked whether it runs on a battery"));
    }
    Ok(decide(&supplies(Path::new("/sys/class/power_supply"))))
}

/// None where there is no such folder, as in many virtual machines.
fn supplies(folder: &Path) -> Vec<Supply> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let read = |folder: &Path, name: &str| {
        std::fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let supply = |folder: std::path::PathBuf| Supply {
        kind: read(&folder, "type"),
        scope: read(&folder, "scope"),
        online: read(&folder, "online"),
        status: read(&folder, "status"),
    };
    entries.take(SUPPLIES_MAX).filter_map(Result::ok).map(|entry| supply(entry.path())).collect()
}

/// Mains or a charger that is plugged in settles it; else a battery that is being emptied.
fn decide(supplies: &[Supply]) -> bool {
    let of_machine = || supplies.iter().filter(|supply| supply.scope != "Device");
    let plugged_in = of_machine().any(|supply| {
        matches!(supply.kind.as_str(), "Mains" | "USB" | "Wireless")
            && matches!(supply.online.as_str(), "1" | "2")
    });
    let emptied = of_machine()
        .any(|supply| matches!(supply.kind.as_str(), "Battery" | "UPS") && supply.status == "Discharging");
    emptied && !plugged_in
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(kind: &str, online: &str, status: &str) -> Supply {
        Supply {
            kind: kind.to_owned(),
            scope: String::new(),
            online: online.to_owned(),
            status: status.to_owned(),
        }
    }

    #[test]
    fn a_battery_that_is_emptied_without_mains() {
        let (plugged, unplugged) = (supply("Mains", "1", ""), supply("Mains", "0", ""));
        let (emptied, charged) = (supply("Battery", "", "Discharging"), supply("Battery", "", "Charging"));
        let usb = supply("USB", "1", "");
        for (supplies, expected) in [
            (vec![], false),
            (vec![plugged.clone()], false),
            (vec![unplugged.clone(), emptied.clone()], true),
            (vec![plugged, emptied.clone()], false),
            (vec![usb, emptied.clone()], false),
            (vec![unplugged.clone(), charged], false),
            (vec![unplugged, supply("Battery", "", "Full")], false),
            (vec![Supply { scope: "Device".to_owned(), ..emptied.clone() }], false),
            (vec![supply("UPS", "", "Discharging")], true),
            (vec![emptied], true),
        ] {
            assert_eq!(decide(&supplies), expected, "{supplies:?}");
        }
    }

    #[test]
    fn supplies_are_read_from_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(supplies(&folder.path().join("none")), []);
        let battery = folder.path().join("BAT0");
        std::fs::create_dir(&battery).unwrap();
        std::fs::write(battery.join("type"), "Battery\n").unwrap();
        std::fs::write(battery.join("status"), "Discharging\n").unwrap();
        assert_eq!(supplies(folder.path()), [supply("Battery", "", "Discharging")]);
    }
}
