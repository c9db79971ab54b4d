-- How long the SQL gateway lends a server connection to a client.
ALTER TABLE tier ADD COLUMN pooling text NOT NULL DEFAULT 'transaction'
    CONSTRAINT tier_pooling CHECK (pooling IN ('transaction', 'session'));
