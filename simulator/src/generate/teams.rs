//! Teams (25), and a few of the many other workloads of Audit.General: Copilot (261), Power BI
//! (20), Forms (66) and one that nobody has documented (audit schema, sections 11 to 13).

use crate::generate::{
    Draft, Head,
    json::{Object, guid_text},
};

const AGENT: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Teams/24124.2315.2911.3357 Safari/537.36";

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    match draft.chance.below(100) {
        0..55 => chat(draft, object),
        55..72 => team(draft, object),
        72..84 => copilot(draft, object),
        84..92 => report(draft, object),
        92..98 => form(draft, object),
        _ => unknown(draft, object),
    }
}

fn chat(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let directory = &draft.scene.directory;
    let others = [
        draft.chance.pick(&directory.users),
        draft.chance.pick(&directory.users),
    ];
    draft.head(
        object,
        &Head {
            operations: &[
                "MessageSent",
                "MessageReadReceiptReceived",
                "ChatRetrieved",
                "MessageUpdated",
                "ReactedToMessage",
                "MessageDeleted",
            ],
            record_type: 25,
            workload: "MicrosoftTeams",
            result: None,
            user_key: &guid_text(user.object_id),
            address: true,
            object_id: None,
        },
    );
    let thread = format!("19:{:032x}@unq.gbl.spaces", draft.chance.wide());
    object.text("ChatThreadId", &thread);
    object.text(
        "CommunicationType",
        if draft.chance.hit(0.5) {
            "OneOnOne"
        } else {
            "GroupChat"
        },
    );
    client(object);
    object.array("Members", |list| {
        for other in others {
            list.object(|member| {
                member.text("DisplayName", &other.display_name);
                member.text("OrganizationId", &draft.scene.tenant);
                member.number("Role", 0);
                member.text("UPN", &other.principal_name);
            });
        }
    });
    object.text(
        "MessageId",
        &(1_700_000_000_000 + draft.chance.below(90_000_000_000)).to_string(),
    );
    participants(draft, object);
    object.text("ItemName", &thread);
    object.text("ResourceTenantId", &draft.scene.tenant);
}

fn client(object: &mut Object<'_>) {
    object.array("ExtraProperties", |list| {
        let mut extra = |key: &str, value: &str| list.pair(("Key", "Value"), key, value);
        extra("TimeZone", "Europe/Berlin");
        extra("OsName", "windows");
        extra("OsVersion", "10");
        extra("Country", "de");
        extra("ClientName", "skypeteams");
        extra("ClientVersion", "27/1.0.0.2024052415");
        extra("ClientUtcOffsetSeconds", "7200");
    });
}

fn participants(draft: &Draft<'_>, object: &mut Object<'_>) {
    object.object("ParticipantInfo", |info| {
        for key in [
            "HasForeignTenantUsers",
            "HasGuestUsers",
            "HasOtherGuestUsers",
            "HasUnauthenticatedUsers",
        ] {
            info.flag(key, false);
        }
        info.array("ParticipatingDomains", |list| {
            list.text(&draft.scene.domain);
        });
        info.array("ParticipatingSIPDomains", |_| {});
        info.array("ParticipatingTenantIds", |list| {
            list.text(&draft.scene.tenant);
        });
    });
}

fn team(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let directory = &draft.scene.directory;
    let team = draft.chance.favour(&directory.teams);
    let member = draft.chance.pick(&directory.users);
    draft.head(
        object,
        &Head {
            operations: &[
                "TeamsSessionStarted",
                "MemberAdded",
                "TabAdded",
                "ChannelAdded",
                "MemberRoleChanged",
                "TeamDeleted",
            ],
            record_type: 25,
            workload: "MicrosoftTeams",
            result: None,
            user_key: &guid_text(user.object_id),
            address: false,
            object_id: Some("Web (1415/1.0.0.2026031406)"),
        },
    );
    object.guid("AADGroupId", team.group);
    object.text("CommunicationType", "Team");
    object.array("Members", |list| {
        list.object(|it| {
            it.text("DisplayName", &member.display_name);
            it.number("Role", 1);
            it.text("UPN", &member.principal_name);
        });
    });
    object.text("TeamGuid", &team.thread);
    object.text("ItemName", team.name);
    object.text("TeamName", team.name);
    object.text("UserAgent", AGENT);
}

fn copilot(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &["CopilotInteraction", "AIAppInteraction"],
            record_type: 261,
            workload: "Copilot",
            result: None,
            user_key: &guid_text(user.object_id),
            address: true,
            object_id: None,
        },
    );
    object.text("ClientRegion", "de");
    let (thread, message) = (draft.chance.wide(), draft.chance.wide());
    object.object("CopilotEventData", |data| {
        data.array("AISystemPlugin", |list| {
            list.pair(("Id", "Name"), "BingWebSearch", "BingWebSearch");
        });
        data.array("AccessedResources", |list| {
            list.object(|it| {
                it.text("Action", "Read");
                it.text(
                    "SiteUrl",
                    "https://contoso.sharepoint.com/sites/Finance/Shared Documents/Budget.docx",
                );
                it.guid("listItemUniqueId", message);
                it.text("Type", "docx");
            });
        });
        data.text("AppHost", "Teams");
        data.array("Contexts", |list| {
            list.pair(
                ("Id", "Type"),
                "https://teams.microsoft.com/l/meetup-join/19%3ameeting",
                "TeamsMeeting",
            );
        });
        data.array("MessageIds", |_| {});
        data.array("Messages", |list| {
            for prompt in [true, false] {
                list.object(|it| {
                    it.guid("Id", message.wrapping_add(u128::from(prompt)));
                    it.flag("isPrompt", prompt);
                });
            }
        });
        data.text("ThreadId", &format!("19:{thread:032x}@thread.v2"));
    });
    object.text("CopilotLogVersion", "1.0.0.0");
}

fn report(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let report = guid_text(draft.chance.wide());
    draft.head(
        object,
        &Head {
            operations: &["ViewReport", "ExportReport", "GetDatasets", "ShareReport"],
            record_type: 20,
            workload: "PowerBI",
            result: None,
            user_key: &user.puid,
            address: true,
            object_id: Some(&report),
        },
    );
    object.text("UserAgent", AGENT);
    object.text("Activity", "ViewReport");
    object.text("ItemName", "Umsatz & Marge");
    object.text("WorkSpaceName", "Finance");
    object.text("ReportName", "Umsatz & Marge");
    object.text("ReportId", &report);
    object.text("ReportType", "PowerBIReport");
    object.flag("IsSuccess", true);
    object.number("RefreshEnforcementPolicy", 0);
    object.text("ConsumptionMethod", "Power BI Web");
    draft.any_guid(object, "RequestId");
    draft.any_guid(object, "ActivityId");
}

fn form(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &["ViewForm", "CreateForm", "CreateResponse", "ExportForm"],
            record_type: 66,
            workload: "MicrosoftForms",
            result: Some("Succeeded"),
            user_key: &user.puid,
            address: true,
            object_id: Some("{form}"),
        },
    );
    object.json_text("ActivityParameters", |inner| {
        inner.text("FormId", "v4j5cvGGr0GRqy180BHbR");
        inner.json_text("Details", |nested| {
            nested.text("Question", "How \"good\" was it? 👍");
        });
    });
    object.text("FormName", "Feedback");
    object.number("FormType", 0);
    object.number("FormsUserType", 0);
    object.text("SourceApp", "");
}

fn unknown(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &["QuantumEntangled", "QuantumMeasured"],
            record_type: 9_998,
            workload: "MicrosoftQuantum",
            result: Some("New"),
            user_key: &user.puid,
            address: true,
            object_id: None,
        },
    );
    object.raw(
        "Payload",
        "{\"depth\":[[[[[[{\"deep\":{\"deeper\":[1e9,-0.5,null,true]}}]]]]]]}",
    );
}
