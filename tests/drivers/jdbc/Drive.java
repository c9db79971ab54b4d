// pgjdbc through the gateway. Takes the usual PG* variables; see README.md for the others.

import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

public final class Drive {
    private interface Step {
        void run() throws Exception;
    }

    private static final String TENANT = System.getenv("OTHER_TENANT");
    private static final boolean SESSION = !"transaction".equals(System.getenv("POOL_MODE"));
    private static final String ADDRESS = env("PGHOST") + ":" + env("PGPORT");
    private static final String DATABASE = env("PGDATABASE");
    private static final String USER = env("PGUSER");
    private static final String PASSWORD = env("PGPASSWORD");
    private static Connection connection;
    private static int passed = 0;
    private static int failed = 0;

    private static Connection connect(String... more) throws SQLException {
        String url = "jdbc:postgresql://" + ADDRESS + "/" + DATABASE;
        Properties properties = new Properties();
        properties.setProperty("user", USER);
        properties.setProperty("password", PASSWORD);
        for (int at = 0; at < more.length; at += 2) {
            properties.setProperty(more[at], more[at + 1]);
        }
        return DriverManager.getConnection(url, properties);
    }

    private static String env(String name) {
        return System.getenv(name);
    }

    private static void step(String name, boolean when, Step step) {
        String skipped = System.getenv("SKIP_STEPS");
        if (!when || (skipped != null && List.of(skipped.split(" ")).contains(name))) {
            return;
        }
        try {
            step.run();
            passed++;
        } catch (Throwable error) {
            failed++;
            System.out.println("FAILED: " + name);
            error.printStackTrace(System.out);
        }
    }

    private static void same(Object found, Object wanted) {
        if (!wanted.equals(found)) {
            throw new AssertionError(found + " is not " + wanted);
        }
    }

    private static String one(String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int at = 0; at < parameters.length; at++) {
                statement.setObject(at + 1, parameters[at]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getString(1);
            }
        }
    }

    private static void refused(String state, Step step) throws Exception {
        try {
            step.run();
        } catch (SQLException error) {
            if (state != null) {
                same(error.getSQLState(), state);
            }
            return;
        }
        throw new AssertionError("no error");
    }

    private static int execute(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
            return statement.getUpdateCount();
        }
    }

    private static void asTheGuideSays() throws Exception {
        Connection connection = DriverManager.getConnection("jdbc:postgresql://" + ADDRESS + "/" + DATABASE, USER, PASSWORD);
        ResultSet rows = connection.createStatement().executeQuery("SELECT count(*) FROM tag");
        rows.next();
        same(rows.getLong(1), 0L);
        connection.close();
    }

    private static void parameters() throws Exception {
        same(one("SELECT ? + ?", 2, 3), "5");
        String text = "Grüße, 'quotes' \\ and ☃";
        same(one("SELECT ?", text), text);
        byte[] megabyte = new byte[1 << 20];
        same(one("SELECT length(?::bytea)", megabyte), String.valueOf(1 << 20));
    }

    // After five executions pgjdbc gives a statement a name, and no longer sends its text.
    private static void prepared() throws Exception {
        try (PreparedStatement twice = connection.prepareStatement("SELECT ? * 2");
                PreparedStatement longer = connection.prepareStatement("SELECT ? || 'x'")) {
            for (int number = 0; number < 20; number++) {
                twice.setInt(1, number);
                longer.setString(1, String.valueOf(number));
                try (ResultSet a = twice.executeQuery(); ResultSet b = longer.executeQuery()) {
                    a.next();
                    b.next();
                    same(a.getInt(1), number * 2);
                    same(b.getString(1), number + "x");
                }
            }
        }
    }

    // A batch is sent in one go, and answered together.
    private static void batch() throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO tag (name) VALUES (?)")) {
            for (int number = 0; number < 500; number++) {
                insert.setString(1, "of-jdbc-" + number);
                insert.addBatch();
            }
            same(insert.executeBatch().length, 500);
        }
        same(execute("DELETE FROM tag WHERE name LIKE 'of-jdbc-%'"), 500);
    }

    private static void transactions() throws Exception {
        connection.setAutoCommit(false);
        execute("INSERT INTO tag (name) VALUES ('of-jdbc')");
        Savepoint savepoint = connection.setSavepoint();
        refused("22012", () -> execute("SELECT 1 / 0"));
        refused("25P02", () -> execute("SELECT 1"));
        connection.rollback(savepoint);
        connection.commit();
        execute("DELETE FROM tag");
        connection.rollback();
        connection.setAutoCommit(true);
        same(execute("DELETE FROM tag WHERE name = 'of-jdbc'"), 1);
    }

    // With a fetch size, a portal is kept between messages.
    private static void cursor() throws Exception {
        connection.setAutoCommit(false);
        int seen = 0;
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(100);
            try (ResultSet rows = statement.executeQuery("SELECT n FROM generate_series(1, 5000) n")) {
                while (rows.next()) {
                    seen++;
                }
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
        same(seen, 5000);
    }

    private static void copyOut() throws Exception {
        CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
        StringWriter text = new StringWriter();
        same(copy.copyOut("COPY (SELECT repeat('x', 99) FROM generate_series(1, 20000)) TO STDOUT", text), 20000L);
        same(text.getBuffer().length(), 100 * 20000);
    }

    private static void cancel() throws Exception {
        try (Statement statement = connection.createStatement()) {
            Timer timer = new Timer(true);
            timer.schedule(new TimerTask() {
                @Override
                public void run() {
                    try {
                        statement.cancel();
                    } catch (SQLException error) {
                        error.printStackTrace(System.out);
                    }
                }
            }, 300);
            refused("57014", () -> statement.execute("SELECT pg_sleep(60)"));
        }
        same(one("SELECT 1"), "1");
    }

    private static void listenAndNotify() throws Exception {
        execute("LISTEN of_jdbc");
        try (Connection other = connect(); Statement statement = other.createStatement()) {
            statement.execute("SELECT pg_notify('of_jdbc', 'hello')");
        }
        PGNotification[] came = connection.unwrap(PGConnection.class).getNotifications(10_000);
        same(came.length, 1);
        same(came[0].getParameter(), "hello");
        execute("UNLISTEN *");
    }

    private static void manyAtOnce() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(10);
        List<Future<Integer>> answers = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            int mine = number;
            Callable<Integer> ask = () -> {
                try (Connection own = connect(); PreparedStatement statement = own.prepareStatement("SELECT ?")) {
                    statement.setInt(1, mine);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        return rows.getInt(1);
                    }
                }
            };
            answers.add(pool.submit(ask));
        }
        for (int number = 0; number < 20; number++) {
            same(answers.get(number).get(), number);
        }
        pool.shutdown();
    }

    private static void thereAndBack(String own) throws SQLException {
        execute("INSERT INTO tag (name) VALUES ('of-the-first')");
        execute("SET guardian.tenant = '" + TENANT + "'");
        same(one("SELECT count(*) FROM tag WHERE name = 'of-the-first'"), "0");
        execute("SET guardian.tenant = '" + own + "'");
        same(execute("DELETE FROM tag WHERE name = 'of-the-first'"), 1);
    }

    // One group of Parse, Bind, Describe, Execute and Sync, as always without a prepared statement.
    private static void switchTenant() throws Exception {
        String own = one("SHOW guardian.tenant");
        for (int time = 0; time < 10; time++) {
            thereAndBack(own);
        }
        connection.setAutoCommit(false);
        execute("SELECT 1");
        refused(null, () -> execute("SET guardian.tenant = '" + TENANT + "'"));
        connection.rollback();
        connection.setAutoCommit(true);
        same(one("SHOW guardian.tenant"), own);
    }

    // A prepared statement gets a name the fifth time, and from then on its text is not sent.
    private static void switchPrepared() throws Exception {
        String own = one("SHOW guardian.tenant");
        try (PreparedStatement there = connection.prepareStatement("SET guardian.tenant = '" + TENANT + "'");
                PreparedStatement back = connection.prepareStatement("SET guardian.tenant = '" + own + "'")) {
            for (int time = 0; time < 10; time++) {
                there.execute();
                same(one("SHOW guardian.tenant"), TENANT);
                back.execute();
                same(one("SHOW guardian.tenant"), own);
            }
        }
    }

    private static void switchSimply() throws Exception {
        Connection kept = connection;
        try (Connection simple = connect("preferQueryMode", "simple")) {
            connection = simple;
            String own = one("SHOW guardian.tenant");
            execute("SET guardian.tenant = '" + TENANT + "'");
            same(one("SHOW guardian.tenant"), TENANT);
            execute("SET guardian.tenant = '" + own + "'");
            same(one("SHOW guardian.tenant"), own);
        } finally {
            connection = kept;
        }
    }

    public static void main(String[] arguments) throws Exception {
        connection = connect();
        step("as_the_guide_says", true, Drive::asTheGuideSays);
        step("parameters", true, Drive::parameters);
        step("prepared", true, Drive::prepared);
        step("batch", true, Drive::batch);
        step("transactions", true, Drive::transactions);
        step("cursor", true, Drive::cursor);
        step("copy_out", true, Drive::copyOut);
        step("cancel", true, Drive::cancel);
        step("listen_and_notify", SESSION, Drive::listenAndNotify);
        step("many_at_once", true, Drive::manyAtOnce);
        step("wrong_password", true, () -> refused("28P01", () -> connect("password", "wrong")));
        step("switch", TENANT != null, Drive::switchTenant);
        step("switch_prepared", TENANT != null, Drive::switchPrepared);
        step("switch_simply", TENANT != null, Drive::switchSimply);
        System.out.println("pgjdbc: " + passed + " steps passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
