//! `strata validate`: proves an image.

use crate::images::{absent, failure, not_kept, surroundings};
use crate::places::Places;
use crate::show::{bytes, print};
use crate::{Outcome, args};
use serde_json::json;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::StoreError;
use strata_store::source::{Source, Surroundings};
use strata_store::validate::{Finding, Report, Severity, is_finding, prove};

/// Runs the command: 0 when nothing is wrong, 1 when something is.
pub(crate) fn run(args: &args::Validate, places: &Places) -> Outcome {
    let report = report(args, &surroundings(places, &args.store))?;
    if args.json {
        let Report { images, findings } = &report;
        let value = json!({
            "name": args.name, "valid": report.is_good(), "images": images, "findings": findings,
        });
        let text = serde_json::to_string_pretty(&value)
            .map_err(|error| Failure::caused(Exit::Other, "cannot print the findings as JSON", &error))?;
        print(&text);
    } else {
        people(args, &report);
    }
    Ok(u8::from(!report.is_good()))
}

fn report(args: &args::Validate, surroundings: &Surroundings<'_>) -> Result<Report, Failure> {
    let what = format!("cannot validate the image '{}'", args.name);
    let failed = |error: &StoreError| failure(Exit::InvalidArguments, &what, error);
    let source = Source::parse(&args.name).map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
    let proven = source.open(surroundings, None).and_then(|store| prove(&*store));
    match proven {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Err(absent(&args.name, &source, surroundings)),
        // An archive of which not even the members can be listed.
        Err(error) if is_finding(&error) => Ok(Report {
            images: Vec::new(),
            findings: vec![Finding {
                severity: Severity::Error,
                subject: "archive".to_owned(),
                problem: strata_store::validate::chain(&error),
            }],
        }),
        Err(error) => Err(not_kept(failed(&error), &source, surroundings)),
    }
}

fn people(args: &args::Validate, report: &Report) {
    print(&args.name);
    for image in &report.images {
        let (layers, size) = (image.layers, bytes(image.size));
        print(&format!("  image    {}  {}, {layers} layers, {size}", image.digest, image.platform));
    }
    for Finding { severity, subject, problem } in &report.findings {
        let severity = match severity {
            Severity::Error => "error  ",
            Severity::Warning => "warning",
        };
        print(&format!("  {severity}  {subject}: {problem}"));
    }
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = report.findings.len() - errors;
    let verdict = if errors == 0 { "good" } else { "NOT good" };
    print(&format!("  {verdict}: {errors} errors, {warnings} warnings"));
}
