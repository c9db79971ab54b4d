//! The SQL gateway's way in: as the application's role, with its password, and `guardian.enter` as a function call of the
//! protocol, so that the capability never stands in SQL.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use guardian_model::KeyType;
use guardian_pgwire::{
    backend::{self, Auth},
    frame::{HEADER_LEN, header},
    frontend, startup,
};
use guardian_postgres::Mechanism;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use crate::application::{Application, capability, keys};

const ENTER: &[u8] = b"SELECT 'guardian.enter(pg_catalog.bytea)'::pg_catalog.regprocedure::pg_catalog.oid";

struct Session(TcpStream);

impl Session {
    fn open(address: &str, user: &str, password: &str, database: &str) -> Self {
        let mut session = Self(TcpStream::connect(address).unwrap());
        session.send(|out| startup::write_startup(out, &[("user", user), ("database", database)]));
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = session.receive();
            match tag {
                b'R' => match backend::auth(&body).unwrap() {
                    Auth::Sasl(_) => {
                        session.send(|out| frontend::write_sasl_initial(out, "SCRAM-SHA-256", scram.message()));
                    }
                    Auth::SaslContinue(challenge) => {
                        scram.update(challenge).unwrap();
                        session.send(|out| frontend::write_sasl_response(out, scram.message()));
                    }
                    Auth::SaslFinal(outcome) => scram.finish(outcome).unwrap(),
                    _ => {}
                },
                b'Z' => return session,
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.0.write_all(&out).unwrap();
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; HEADER_LEN];
        self.0.read_exact(&mut head).unwrap();
        let head = header(&head).unwrap().unwrap();
        let mut body = vec![0; head.body_len];
        self.0.read_exact(&mut body).unwrap();
        (head.tag, body)
    }

    /// The body of the one message of this tag, up to the server's being ready.
    fn answer(&mut self, wanted: u8) -> Vec<u8> {
        let mut found = None;
        loop {
            match self.receive() {
                (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
                (b'Z', _) => return found.expect("an answer"),
                (tag, body) if tag == wanted => found = Some(body),
                _ => {}
            }
        }
    }

    fn value(&mut self, sql: &[u8]) -> String {
        self.send(|out| frontend::write_query(out, sql));
        let row = self.answer(b'D');
        String::from_utf8(backend::first_column(&row).unwrap().unwrap().to_vec()).unwrap()
    }

    fn enter(&mut self, function: u32, capability: &[u8]) -> Option<String> {
        self.send(|out| frontend::write_function_call(out, function, capability));
        let result = self.answer(b'V');
        backend::function_result(&result).unwrap().map(|text| String::from_utf8(text.to_vec()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_s_role_enters_by_a_function_call() {
    for mechanism in [Mechanism::GrantedRegister, Mechanism::SuperuserFunction, Mechanism::CapabilityLookup] {
        let mut application = Application::new(
            "CREATE TABLE item (id bigint PRIMARY KEY, tenant_id uuid NOT NULL)",
            "keys.item_pkey = \"composite\"",
        )
        .await
        .force(mechanism);
        application.harden().await;
        application.admit().await;
        // Gives the role its password.
        drop(application.connect().await);
        for key in keys(KeyType::Uuid) {
            let row = format!("INSERT INTO item VALUES (1, '{key}')");
            application.execute(&row).await;
        }
        let options = application.connect_options();
        let address = format!("{}:{}", options.get_host(), options.get_port());
        let (user, database) = (options.get_username().to_owned(), options.get_database().unwrap().to_owned());
        let talk = move || {
            let mut session = Session::open(&address, &user, crate::application::PASSWORD, &database);
            let function: u32 = session.value(ENTER).parse().unwrap();
            for key in keys(KeyType::Uuid) {
                assert_eq!(session.enter(function, capability(&key).expose()), Some(key.to_register()), "{mechanism:?}");
                assert_eq!(
                    session.value(b"SELECT pg_catalog.string_agg(tenant_id::text, ' ') FROM public.item"),
                    key.to_string()
                );
            }
            assert_eq!(session.enter(function, &[9; 32]), None, "{mechanism:?}");
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
    }
}
