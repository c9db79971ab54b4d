-- Every kind of run. A kind that an older guardian does not know is left alone by it.
ALTER TABLE run DROP CONSTRAINT run_kind;
ALTER TABLE run ADD CONSTRAINT run_kind CHECK (kind IN ('apply', 'migrate', 'adopt', 'rotate_key'));

-- As for tenants and logins: sealed anew is not changed.
DROP TRIGGER application_changed ON application;
CREATE TRIGGER application_changed AFTER UPDATE OF stage, sealed_adopt_password ON application FOR EACH ROW
    WHEN (pg_catalog.current_setting('guardian.resealing', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION note_change('application');
