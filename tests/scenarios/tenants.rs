//! The configurations of several tenants, of another cloud and of other credentials do what their comments say.

use std::path::Path;

use audit_exporter_simulator::TenantConfig;

use crate::configs::{APP, CONTOSO, FABRIKAM, GENERAL, assert_same, by_name, collected};
use crate::program::{Setup, blobs, files, lines, microsoft, raw_of, tenant};

const TAILSPIN: &str = "11111111-2222-4333-8444-555555555503";
const AGENCY: &str = "11111111-2222-4333-8444-555555555504";
const TAILSPIN_APP: &str = "11111111-2222-4333-8444-5555555555a3";
const AGENCY_APP: &str = "11111111-2222-4333-8444-5555555555a4";

#[tokio::test(flavor = "multi_thread")]
async fn many_tenants_stay_in_their_folders() {
    let microsoft = microsoft(vec![
        tenant(CONTOSO, APP),
        tenant(FABRIKAM, APP),
        tenant(TAILSPIN, TAILSPIN_APP),
    ])
    .await;
    let setup = Setup::of("many-tenants.toml")
        .at("contoso", &microsoft)
        .at("fabrikam", &microsoft)
        .at("tailspin", &microsoft)
        .secret_file("secrets/contoso")
        .secret_file("secrets/tailspin");
    let few = ["Audit.AzureActiveDirectory", GENERAL];
    let wanted = |tenant: &str, of: &str| tenant != FABRIKAM || few.contains(&of);
    setup.run(blobs(&microsoft, wanted)).await;
    let contoso = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let fabrikam = collected(&setup, &microsoft, "fabrikam", FABRIKAM, &few);
    let tailspin = collected(&setup, &microsoft, "tailspin", TAILSPIN, &[]);

    let archived = |name: &str| {
        let folder = setup.path(&format!("data/customers/{name}"));
        let mut all = Vec::new();
        for file in files(&folder) {
            assert!(file.ends_with(".ndjson.zst"), "{file}");
            let unpacked =
                zstd::decode_all(std::fs::File::open(folder.join(file)).unwrap()).unwrap();
            all.extend(
                String::from_utf8(unpacked)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        }
        all
    };
    assert_same(&archived("contoso"), &contoso);
    assert_same(&archived("fabrikam"), &fabrikam);
    assert!(!setup.path("data/customers/tailspin").exists());
    let agency = setup.path("data/agency");
    let own = files(&agency);
    assert_eq!(own.len(), 5, "a plain file for each content type: {own:?}");
    let own: Vec<String> = own
        .iter()
        .flat_map(|name| lines(&agency.join(name)))
        .collect();
    let whole: Vec<String> = own
        .into_iter()
        .filter(|line| line.contains("\"raw\":"))
        .collect();
    let valid = tailspin
        .iter()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_same(&raw_of(&whole), valid);

    assert_eq!(
        files(&setup.path("data/analysts")),
        ["contoso.ndjson", "fabrikam.ndjson"]
    );
    for (name, all) in [("contoso", &contoso), ("fabrikam", &fabrikam)] {
        let changes = all.iter().filter(|line| {
            let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else {
                return false;
            };
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_lowercase();
            text("Workload") == "microsoftflow"
                || (text("Workload") == "azureactivedirectory"
                    && !text("Operation").starts_with("userlog"))
        });
        assert_same(
            &raw_of(&lines(&setup.path(&format!("data/analysts/{name}.ndjson")))),
            changes,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gcc_high_asks_for_tokens_of_its_own_cloud() {
    let microsoft = microsoft(vec![tenant(AGENCY, AGENCY_APP)]).await;
    let setup = Setup::of("gcc-high.toml")
        .at("agency", &microsoft)
        .secret_file("secrets/agency");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cloud gcc_high"), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "agency", AGENCY, &[]);
    assert_same(&by_name(&setup, "data/agency"), &everything);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_takes_the_place_of_a_secret() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let registered = std::fs::read_to_string(certificates.join("app.crt")).unwrap();
    let microsoft = microsoft(vec![TenantConfig {
        certificates: vec![registered],
        ..tenant(CONTOSO, APP)
    }])
    .await;
    let setup = Setup::of("certificate.toml").at("contoso", &microsoft);
    let (code, said) = setup.check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("secrets/app.crt cannot be read"), "{said}");
    std::fs::create_dir(setup.path("secrets")).unwrap();
    for (from, to) in [("other.crt", "app.crt"), ("other.key", "app.key")] {
        std::fs::copy(certificates.join(from), setup.path("secrets").join(to)).unwrap();
    }
    let (code, said) = setup.check();
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("AADSTS700027: the certificate is not registered"),
        "{said}"
    );
    for name in ["app.crt", "app.key"] {
        std::fs::copy(certificates.join(name), setup.path("secrets").join(name)).unwrap();
    }
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("certificate CN=audit-exporter tests (thumbprint "),
        "{said}"
    );
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    assert_same(&by_name(&setup, "data/contoso"), &everything);
}
