use super::*;

fn access(more: &str) -> Result<Access> {
    let text = format!("client_id = \"app\"\nclient_secret = \"hidden\"\n{more}");
    Access::of(&Tenant {
        name: "contoso".into(),
        id: "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10".into(),
        tags: Vec::new(),
        options: Options::from_toml("tenants.contoso", &text),
    })
}

#[test]
fn each_cloud_has_its_hosts() {
    let cases = [
        (
            "commercial",
            "login.microsoftonline.com",
            [
                "manage.office.com",
                "graph.microsoft.com",
                "outlook.office365.com",
            ],
        ),
        (
            "gcc",
            "login.microsoftonline.com",
            [
                "manage-gcc.office.com",
                "graph.microsoft.com",
                "outlook.office365.com",
            ],
        ),
        (
            "gcc_high",
            "login.microsoftonline.us",
            [
                "manage.office365.us",
                "graph.microsoft.us",
                "outlook.office365.us",
            ],
        ),
        (
            "dod",
            "login.microsoftonline.us",
            [
                "manage.protection.apps.mil",
                "dod-graph.microsoft.us",
                "webmail.apps.mil",
            ],
        ),
        (
            "china",
            "login.partner.microsoftonline.cn",
            [
                "manage.office365.cn",
                "microsoftgraph.chinacloudapi.cn",
                "partner.outlook.cn",
            ],
        ),
    ];
    for (cloud, authority, hosts) in cases {
        let access = access(&format!("cloud = \"{cloud}\"")).unwrap();
        assert_eq!(
            access.app.authority.as_str(),
            format!("https://{authority}/")
        );
        let origins = [
            &access.management_api,
            &access.graph_api,
            &access.exchange_api,
        ];
        let audiences = [
            &access.audience,
            &access.graph_audience,
            &access.exchange_audience,
        ];
        for ((host, origin), audience) in hosts.iter().zip(origins).zip(audiences) {
            assert_eq!(origin.as_str(), format!("https://{host}/"));
            assert_eq!(*audience, format!("https://{host}"));
        }
        assert_eq!(access.publisher, "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10");
    }
}

#[test]
fn each_host_and_each_audience_can_be_set_apart() {
    let access = access(
        "authority = \"https://login.windows.net\"\ngraph_api = \"https://proxy.example\"\n\
         audience = \"https://manage-gcc.office.com/\"\nexchange_audience = \"https://outlook.example/.default\"",
    )
    .unwrap();
    assert_eq!(access.app.authority.as_str(), "https://login.windows.net/");
    assert_eq!(access.management_api.as_str(), "https://manage.office.com/");
    assert_eq!(access.audience, "https://manage-gcc.office.com");
    assert_eq!(access.graph_api.as_str(), "https://proxy.example/");
    assert_eq!(access.graph_audience, "https://graph.microsoft.com");
    assert_eq!(
        access.exchange_api.as_str(),
        "https://outlook.office365.com/"
    );
    assert_eq!(access.exchange_audience, "https://outlook.example");
}

#[test]
fn an_audience_with_a_slash_or_spaces_is_understood() {
    for pasted in [
        "https://manage.office.com/",
        " https://manage.office.com ",
        "https://manage.office.com/.default",
        "https://manage.office.com//",
    ] {
        let access = access(&format!("audience = \"{pasted}\"")).unwrap();
        assert_eq!(access.audience, "https://manage.office.com");
    }
    assert!(access("audience = \"https://manage. office.com\"").is_err());
    assert!(access("audience = \" \"").is_err());
}

#[test]
fn only_https_and_loopback_hosts_get_secrets_and_tokens() {
    for good in [
        "http://127.0.0.1:8080",
        "http://[::1]:1/",
        "http://localhost",
        "https://proxy.example:8443",
    ] {
        assert!(
            access(&format!("management_api = \"{good}\"")).is_ok(),
            "{good}"
        );
        assert!(access(&format!("authority = \"{good}\"")).is_ok(), "{good}");
    }
    for bad in [
        "http://manage.office.com",
        "http://localhost.evil.example",
        "ftp://127.0.0.1",
        "manage.office.com",
        "https://user:hunter2@manage.office.com",
        "https://user:hunter2@ho st/",
        "https://user:hunter2@[::1",
        "https://user:hunter2@host:99999",
        "user:hunter2@manage.office.com",
        "https://manage.office.com/api/v1.0",
        "https://manage.office.com/?a=b",
        "data:x",
    ] {
        let error = access(&format!("management_api = \"{bad}\"")).unwrap_err();
        assert!(error.to_string().contains("management_api"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn mistakes_in_the_options_are_named() {
    for (option, named) in [
        ("cloud = \"gcc-high\"", "cloud"),
        ("token_version = \"v3\"", "token_version"),
        ("requests_per_minute = 0", "requests_per_minute"),
        (
            "publisher_identifier = \"contoso.com\"",
            "publisher_identifier",
        ),
        ("clientid = \"x\"", "clientid"),
    ] {
        let error = access(option).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn debug_output_holds_no_secret() {
    assert!(!format!("{:?}", access("").unwrap()).contains("hidden"));
}
