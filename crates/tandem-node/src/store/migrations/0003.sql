-- Of accounts seen, the newest device set too: after a restart it says at once which devices were revoked.

-- A `Signed` with a `DeviceSet` of the row's epoch or of one before; protobuf.
ALTER TABLE seen_records ADD COLUMN device_set BLOB;
