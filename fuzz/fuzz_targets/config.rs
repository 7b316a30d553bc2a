//! Configurations of images: all questions have an answer, and changes are kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_oci::ImageConfig;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut config) = ImageConfig::parse(bytes) else { return };
    drop((
        config.platform(),
        config.labels(),
        config.diff_ids(),
        config.history(),
        config.entrypoint(),
        config.cmd(),
    ));
    config.set_env("PATH", "/bin");
    config.set_label("a.label", "its value");
    config.set_entrypoint(["/cnb/process/web"]);
    let again = ImageConfig::parse(&config.encode()).expect("what was read can be written and read");
    assert_eq!(again.env_var("PATH"), Some("/bin"));
    assert_eq!(again.label("a.label"), Some("its value"));
    assert_eq!(again.entrypoint(), ["/cnb/process/web"]);
    assert_eq!(again.encode(), config.encode());
});
