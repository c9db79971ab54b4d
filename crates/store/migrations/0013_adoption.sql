-- How far the adoption of an application that runs already has come, and the password of the role that serves it meanwhile.
ALTER TABLE application
    ADD COLUMN stage text NOT NULL DEFAULT 'none'
        CONSTRAINT application_stage CHECK (stage IN ('none', 'prepared', 'observing', 'enforced')),
    ADD COLUMN stage_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN sealed_adopt_password bytea;

-- Gateways follow the stage as they follow tiers and logins.
ALTER TABLE change DROP CONSTRAINT change_kind;
ALTER TABLE change ADD CONSTRAINT change_kind CHECK (kind IN ('tier', 'login', 'application'));
CREATE TRIGGER application_changed AFTER UPDATE OF stage, sealed_adopt_password ON application
    FOR EACH ROW EXECUTE FUNCTION note_change('application');

ALTER TABLE run DROP CONSTRAINT run_kind;
ALTER TABLE run ADD CONSTRAINT run_kind CHECK (kind IN ('apply', 'migrate', 'adopt'));
