//! `kill -9` under load.

use alyx_tests::{Form, Project};
use serde_json::json;

alyx_tests::in_both_forms! {
    every_acknowledged_write_is_there_after_kill_nine,
}

async fn every_acknowledged_write_is_there_after_kill_nine(form: Form) {
    let project = Project::chat();
    for round in 0..3 {
        let server = form.start(&project).await;
        let lanes = (0..8).map(|lane| {
            let http = server.http();
            async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let body = json!({"channel": "crash", "author": "Bob", "content": format!("{round}-{lane}-{n}")});
                    let path = "/api/collections/messages";
                    let sent = http.try_send(http::Method::POST, path, &[], body.to_string()).await;
                    match sent {
                        Ok(reply) if reply.status == 201 => {
                            acknowledged.push(reply.json()["id"].as_str().expect("an id").to_owned());
                        }
                        Ok(reply) => panic!("{reply:?}"),
                        Err(_) => return acknowledged,
                    }
                }
                unreachable!("the server is killed")
            }
        });
        let load = futures_util::future::join_all(lanes);
        let probe = server.http();
        let kill = async {
            alyx_tests::eventually("some writes are in", || async {
                let total = probe.get("/api/collections/messages").await.json()["total"].as_u64();
                if total >= Some(200 * (round + 1)) {
                    Ok(())
                } else {
                    Err(total)
                }
            })
            .await;
            server.kill().await;
        };
        let (acknowledged, ()) = tokio::join!(load, kill);
        let server = form.start(&project).await;
        for id in acknowledged.iter().flatten() {
            let reply = server
                .http()
                .get(&format!("/api/collections/messages/{id}"))
                .await;
            assert_eq!(reply.status, 200, "{id} was acknowledged: {reply:?}");
        }
        assert!(
            acknowledged.iter().flatten().count() > 50,
            "the test wrote something"
        );
        server.kill().await;
    }
}
