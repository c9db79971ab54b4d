-- Whoever imports tenants is told of deleted ones with the same key.
CREATE INDEX tombstone_by_key ON tenant (key) WHERE state = 'deleted';
