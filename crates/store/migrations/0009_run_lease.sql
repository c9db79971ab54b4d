-- A run belongs to the control plane that holds its lease. Another one takes it up when the lease has ended.
ALTER TABLE run
    -- What was asked for, so that another process can go on with it.
    ADD COLUMN arguments json NOT NULL DEFAULT '{}',
    -- Grows with every claim; each write of progress names it.
    ADD COLUMN fence bigint NOT NULL DEFAULT 1,
    ADD COLUMN lease_owner text,
    -- An older guardian beside this one knows no lease. Its runs are left alone for a while; locks in the database that a
    -- run changes keep two from acting at once there.
    ADD COLUMN lease_until timestamptz NOT NULL DEFAULT now() + interval '1 minute';
