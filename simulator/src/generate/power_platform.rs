//! Power Automate, Power Apps in both schemas, Dataverse and Power Platform administration
//! (audit schema, "Power Automate" and "Power Apps / Power Platform").

use crate::generate::{
    Draft, Head,
    directory::{App, Environment},
    json::{Array, Object, guid_text},
};

const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36";

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    match draft.chance.below(100) {
        0..32 => flow(draft, object),
        32..54 => power_app(draft, object),
        54..88 => unified_app(draft, object),
        88..94 => unified_administration(draft, object),
        _ => dataverse(draft, object),
    }
}

fn flow(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let directory = &draft.scene.directory;
    let flow = draft.chance.favour(&directory.flows);
    let operation = draft.head(
        object,
        &Head {
            operations: &[
                "EditFlow",
                "CreateFlow",
                "PutPermissions",
                "DeleteFlow",
                "DeletePermissions",
                "StartAPaidTrial",
                "RenewTrial",
            ],
            record_type: 30,
            workload: "MicrosoftFlow",
            result: Some("Success"),
            user_key: &user.principal_name,
            address: true,
            object_id: Some(&guid_text(user.object_id)),
        },
    );
    object.text("FlowConnectorNames", &flow.connectors);
    let environment = &directory.environments[flow.environment].id;
    let url = if draft.chance.hit(0.8) {
        format!(
            "https://admin.powerplatform.microsoft.com/environments/{environment}/flows/{}/flowDetails",
            guid_text(flow.id)
        )
    } else {
        format!(
            "https://admin.flow.microsoft.com/environments/{environment}/resources/flows/{}",
            guid_text(flow.id)
        )
    };
    object.text("FlowDetailsUrl", &url);
    object.text(
        "LicenseDisplayName",
        if operation.ends_with("Trial") {
            "Power Automate Premium"
        } else {
            ""
        },
    );
    if operation.ends_with("Permissions") {
        let recipient = draft.chance.pick(&directory.users);
        object.text("RecipientUPN", &recipient.principal_name);
        object.text(
            "SharingPermission",
            if draft.chance.hit(0.5) { "3" } else { "2" },
        );
    } else {
        object.number("SharingPermission", 1);
    }
    object.number("UserTypeInitiated", if user.admin { 2 } else { 1 });
    object.text("UserUPN", &user.principal_name);
}

fn power_app(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let directory = &draft.scene.directory;
    let app = draft.chance.favour(&directory.apps);
    let operation = draft.head(
        object,
        &Head {
            operations: &[
                "LaunchPowerApp",
                "LaunchPowerApp",
                "LaunchPowerApp",
                "UpdatePowerApp",
                "PublishPowerApp",
                "PowerAppPermissionEdited",
                "CreatePowerApp",
                "PromotePowerAppVersion",
                "MarkPowerAppAsFeatured",
                "DeletePowerApp",
            ],
            record_type: 45,
            workload: "PowerApps",
            result: Some("Success"),
            user_key: &user.principal_name,
            address: false,
            object_id: Some(&guid_text(user.object_id)),
        },
    );
    let environment = &directory.environments[app.environment].id;
    let target = draft.chance.pick(&directory.users).object_id;
    let additional = |info: &mut Object<'_>| {
        info.text("environmentName", environment);
        if operation == "PowerAppPermissionEdited" {
            info.guid("targetObjectId", target);
            info.text("permissionType", "CanView");
        }
    };
    if draft.chance.hit(0.6) {
        object.json_text("AdditionalInfo", additional);
    } else {
        object.object("AdditionalInfo", additional);
    }
    object.guid("AppName", app.id);
}

fn unified_app(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let directory = &draft.scene.directory;
    let app = draft.chance.favour(&directory.apps);
    let environment = &directory.environments[app.environment];
    unified(
        draft,
        object,
        environment,
        Some(app),
        &[
            "LaunchPowerApp",
            "LaunchPowerApp",
            "PublishApp",
            "SharePowerApp",
            "AdminDeleteApp",
        ],
    );
}

fn unified_administration(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let environment = draft.chance.pick(&draft.scene.directory.environments);
    unified(
        draft,
        object,
        environment,
        None,
        &[
            "GovernanceApiPolicyOperation",
            "EnvironmentAddedToEnvironmentGroup",
            "NewEnvironmentGroup",
            "BillingPolicyUpdate",
            "ApplyAdminRole",
            "TrialProvision",
            "LockboxRequestOperation",
        ],
    );
}

/// Record type 256 has its properties first and its common fields last.
fn unified(
    draft: &mut Draft<'_>,
    object: &mut Object<'_>,
    environment: &Environment,
    app: Option<&App>,
    operations: &[&'static str],
) {
    let user = draft.user;
    let correlation = draft.chance.wide();
    // The operation is a property before it is a field.
    let share = draft.chance.unit();
    let place = (share * share * operations.len() as f64) as usize;
    let operation = draft.turned(operations, place);
    object.array("PropertyCollection", |list| {
        properties(list, environment, app);
        list.named("powerplatform.analytics.operation.is_successful", "True");
        list.named(
            "powerplatform.analytics.correlation.id",
            &guid_text(correlation),
        );
        list.named("enduser.ip_address", &format!("::ffff:{}", user.address));
        list.named("user_agent.original", AGENT);
        list.named("version", "1.0");
        list.named("type", "PowerPlatformAdministratorActivityRecord");
        list.named("powerplatform.analytics.activity.name", operation);
        list.named(
            "powerplatform.analytics.activity.id",
            &guid_text(correlation ^ 1),
        );
        list.named("enduser.id", &guid_text(user.object_id));
        list.named(
            "powerplatform.analytics.resource.tenant.id",
            &draft.scene.tenant,
        );
        list.named("enduser.principal_name", &user.principal_name);
        list.named("enduser.role", if user.admin { "Admin" } else { "Regular" });
    });
    object.text("EnvironmentId", &environment.id);
    draft.user_id(object);
    draft.address(object);
    draft.id(object);
    draft.record_type(object, 256);
    draft.time(object);
    object.text("Operation", operation);
    object.text("OrganizationId", &draft.scene.tenant);
    draft.user_type(object);
    object.guid("UserKey", user.object_id);
    object.text("Workload", "PowerPlatform");
    object.text("ResultStatus", "Succeeded");
    draft.version(object);
    object.flag("RequiresCustomerKeyEncryption", false);
}

fn properties(list: &mut Array<'_>, environment: &Environment, app: Option<&App>) {
    if let Some(app) = app {
        list.named(
            "powerplatform.analytics.resource.power_app.display_name",
            &app.name,
        );
        list.named(
            "powerplatform.analytics.resource.power_app.id",
            &guid_text(app.id),
        );
    }
    list.named(
        "powerplatform.analytics.resource.environment.name",
        environment.name,
    );
    list.named(
        "powerplatform.analytics.resource.environment.id",
        &environment.id,
    );
    list.named(
        "powerplatform.analytics.resource.type",
        if app.is_some() {
            "PowerApp"
        } else {
            "Environment"
        },
    );
}

fn dataverse(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &[
                "CrmDefaultActivity",
                "RetrieveMultiple",
                "Update",
                "Create",
                "Delete",
            ],
            record_type: 21,
            workload: "CRM",
            result: Some("Success"),
            user_key: &user.puid,
            address: true,
            object_id: None,
        },
    );
    object.text("CrmOrganizationUniqueName", "orgd1f2a3b4");
    object.text("InstanceUrl", "https://contoso.crm.dynamics.com/");
    object.text(
        "ItemUrl",
        "https://contoso.crm.dynamics.com/main.aspx?etn=account&pagetype=entityrecord",
    );
    object.text("ItemType", "account");
    object.text("UserAgent", AGENT);
    draft.any_guid(object, "CorrelationId");
    draft.any_guid(object, "EntityId");
    object.text("EntityName", "account");
    object.text("Message", "RetrieveMultiple");
    object.text(
        "Query",
        "<fetch version=\"1.0\" output-format=\"xml-platform\"><entity name=\"account\"><attribute name=\"name\" /><filter type=\"and\"><condition attribute=\"statecode\" operator=\"eq\" value=\"0\" /></filter></entity></fetch>",
    );
    let rows = 1 + draft.chance.below(4);
    object.array("Fields", |fields| {
        for row in 0..rows {
            fields.named(&format!("attribute{row}"), "{\"Value\":\"7\"}");
        }
    });
}
