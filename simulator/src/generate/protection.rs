//! Data loss prevention: `SharePoint` (11) and Exchange (13) (audit schema, "DLP"). The detected
//! values are made up; real ones are secrets.

use crate::generate::{
    Draft, Head,
    json::{Object, guid_text},
};

const CREDIT_CARD: &str = "50842eb7-edc8-4019-85dd-5a5c1f2bb085";

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let mail = draft.chance.hit(0.5);
    let document = guid_text(draft.chance.wide());
    draft.head(
        object,
        &Head {
            operations: if mail {
                &["DlpRuleMatch", "DlpInfo"]
            } else {
                &["DlpRuleMatch", "DlpInfo", "DlpRuleUndo"]
            },
            record_type: if mail { 13 } else { 11 },
            workload: if mail { "Exchange" } else { "SharePoint" },
            result: None,
            user_key: "DlpAgent",
            address: false,
            object_id: Some(&document),
        },
    );
    draft.any_guid(object, "IncidentId");
    policy(draft, object);
    object.flag("SensitiveInfoDetectionIsIncluded", true);
    if mail {
        let sent = draft.earlier(600);
        object.object("ExchangeMetaData", |data| {
            data.text("MessageID", &format!("<{document}@contoso.example>"));
            data.text("From", &user.principal_name);
            data.array("To", |list| list.text("partner@fabrikam.example"));
            data.array("CC", |_| {});
            data.array("BCC", |_| {});
            data.text("Subject", "Card details");
            data.text("Sent", &sent);
            data.number("RecipientCount", 1);
        });
    } else {
        sharepoint(draft, object);
    }
}

fn policy(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let (policy, rule) = (draft.chance.below(6), draft.chance.below(20));
    let most = if draft.chance.hit(0.15) { 25 } else { 4 };
    let hits = 1 + draft.chance.below(most);
    let first = draft.chance.below(1 << 30);
    object.array("PolicyDetails", |policies| {
        policies.object(|it| {
            it.guid("PolicyId", u128::from(policy) << 64);
            it.text("PolicyName", "U.S. Financial Data");
            it.array("Rules", |rules| {
                rules.object(|it| {
                    it.array("Actions", |list| {
                        list.text("BlockAccess");
                        list.text("GenerateAlert");
                    });
                    it.object("ConditionsMatched", |matched| {
                        matched.array("DocumentProperties", |_| {});
                        matched.array("OtherConditions", |list| {
                            list.named("SensitiveInformation", "Financial");
                        });
                        matched.array("SensitiveInformation", |list| {
                            list.object(|found| information(found, hits, first));
                        });
                    });
                    it.guid("RuleId", u128::from(rule) << 64);
                    it.text("RuleMode", "Enable");
                    it.text("RuleName", "Low volume of content detected");
                    it.text("Severity", "Low");
                });
            });
        });
    });
}

fn information(found: &mut Object<'_>, hits: u64, first: u64) {
    found.number("Confidence", 85);
    found.number("Count", hits as i64);
    found.text("Location", "Message Body");
    found.array(
        "SensitiveInformationDetailedClassificationAttributes",
        |list| {
            for confidence in [65, 75, 85] {
                list.object(|level| {
                    level.number("Confidence", confidence);
                    level.number("Count", hits as i64);
                    level.flag("IsMatch", confidence == 85);
                });
            }
        },
    );
    found.object("SensitiveInformationDetections", |detections| {
        detections.array("DetectedValues", |values| {
            for hit in 0..hits {
                let card = format!("4000-00{:02}-{:04}-0000", hit, (first + hit) % 10_000);
                values.named(&card, &format!("card {card} exp 01/30 for invoice {first}"));
            }
        });
        detections.flag("ResultsTruncated", false);
    });
    found.text("SensitiveInformationTypeName", "Credit Card Number");
    found.text("SensitiveType", CREDIT_CARD);
    found.number("UniqueCount", hits as i64);
}

fn sharepoint(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let site = draft.chance.favour(&draft.scene.directory.sites);
    let (made, modified) = (draft.earlier(900_000), draft.earlier(9_000));
    object.object("SharePointMetaData", |data| {
        data.text("From", &user.principal_name);
        data.text("itemCreationTime", &made);
        data.guid("SiteCollectionGuid", site.id);
        data.text(
            "SiteCollectionUrl",
            &format!("https://contoso.sharepoint.com/{}", site.path),
        );
        data.text("FileName", "cards.xlsx");
        data.text("FileOwner", &user.display_name);
        data.text(
            "FilePathUrl",
            &format!(
                "https://contoso.sharepoint.com/{}/Shared Documents/cards.xlsx",
                site.path
            ),
        );
        data.text("DocumentLastModifier", &user.display_name);
        data.text("DocumentSharer", "");
        data.guid("UniqueId", site.list);
        data.text("LastModifiedTime", &modified);
        data.flag("IsViewableByExternalUsers", false);
    });
}
