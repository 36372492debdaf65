//! The national clouds (reference: auth.md §1, search-unified-audit-log.md B, auth.md §7 for Key Vault).

/// What a national cloud has in its own place.
pub(super) struct Cloud {
    pub(super) name: &'static str,
    pub(super) authority: &'static str,
    pub(super) management_api: &'static str,
    pub(super) graph_api: &'static str,
    pub(super) exchange_api: &'static str,
    /// What the names of all key vaults end in; their audience is this, as a URL.
    pub(super) vault_domain: &'static str,
    /// Microsoft's page of the API says where it is not (reference: graph-audit-queries.md §1).
    pub(super) has_graph_audit_queries: bool,
}

pub(super) const CLOUDS: [Cloud; 5] = [
    Cloud {
        name: "commercial",
        authority: "https://login.microsoftonline.com",
        management_api: "https://manage.office.com",
        graph_api: "https://graph.microsoft.com",
        exchange_api: "https://outlook.office365.com",
        vault_domain: "vault.azure.net",
        has_graph_audit_queries: true,
    },
    Cloud {
        name: "gcc",
        authority: "https://login.microsoftonline.com",
        management_api: "https://manage-gcc.office.com",
        graph_api: "https://graph.microsoft.com",
        exchange_api: "https://outlook.office365.com",
        vault_domain: "vault.azure.net",
        has_graph_audit_queries: true,
    },
    Cloud {
        name: "gcc_high",
        authority: "https://login.microsoftonline.us",
        management_api: "https://manage.office365.us",
        graph_api: "https://graph.microsoft.us",
        exchange_api: "https://outlook.office365.us",
        vault_domain: "vault.usgovcloudapi.net",
        has_graph_audit_queries: false,
    },
    Cloud {
        name: "dod",
        authority: "https://login.microsoftonline.us",
        management_api: "https://manage.protection.apps.mil",
        graph_api: "https://dod-graph.microsoft.us",
        exchange_api: "https://webmail.apps.mil",
        vault_domain: "vault.usgovcloudapi.net",
        has_graph_audit_queries: false,
    },
    // Known from its users only; Microsoft's reference does not list it.
    Cloud {
        name: "china",
        authority: "https://login.partner.microsoftonline.cn",
        management_api: "https://manage.office365.cn",
        graph_api: "https://microsoftgraph.chinacloudapi.cn",
        exchange_api: "https://partner.outlook.cn",
        vault_domain: "vault.azure.cn",
        has_graph_audit_queries: false,
    },
];
