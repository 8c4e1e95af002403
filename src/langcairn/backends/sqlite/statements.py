"""The SQL of the SQLite backend, with places for the names of the tables."""

from __future__ import annotations

# The inner query needs nothing but an index, also where it has to sort: 10 of the 5,000 checkpoints
# of an execution take 1 ms like this, and 10 ms if whole rows are sorted.
#
# TEXT is read as a BLOB where bytes are wanted: SQLite holds UTF-8, and decoding it only to encode
# it again would cost more than reading it.
# Each row comes once for each of its writes: one statement reads one state of the database, where
# several would need a transaction around them, which takes longer than the rows do.
FIND = """
SELECT c.execution_id, c.namespace, c.id, c.parent_id, c.node_name,
    CAST(c.state AS BLOB), CAST(c.metadata AS BLOB), c.timestamp, c.version,
    CAST(c.graph AS BLOB), COALESCE(e.epoch, 0), w.namespace, w.checkpoint_id, w.task_id, w.idx,
    w.task_path, w.channel, CAST(w.value AS BLOB)
FROM (SELECT c.rowid AS found FROM {checkpoints} AS c WHERE {conditions}
    ORDER BY c.id DESC, c.execution_id DESC, c.namespace DESC LIMIT :limit)
CROSS JOIN {checkpoints} AS c ON c.rowid = found
LEFT JOIN {executions} AS e ON e.execution_id = c.execution_id
LEFT JOIN {writes} AS w ON :with_writes AND w.execution = e.number
    AND w.namespace = c.namespace AND w.checkpoint_id = c.id
"""

# For each condition on `FIND`.
CONDITIONS = {
    "execution_id": "c.execution_id = :execution_id",
    "namespace": "c.namespace = :namespace",
    "id": "c.id = :id",
    "before_id": "c.id < :before_id",
    "after": """
        (c.id, c.execution_id, c.namespace) < (:after_id, :after_execution, :after_namespace)""",
    "since": "c.timestamp >= :since",
    "until": "c.timestamp < :until",
    # Never too strict. What JSON can't say exactly is equally inexact on both sides; an object may
    # stand for a value of another kind, such as an enum's member; and a row whose metadata is
    # damaged passes, so that the store can say which one it is.
    "metadata": """CASE
        WHEN NOT json_valid(c.metadata) THEN TRUE
        WHEN json_type(c.metadata) <> 'object' THEN TRUE
        ELSE NOT EXISTS (SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM json_each(c.metadata) AS present
            WHERE present.key = wanted.key
                AND (present.atom IS wanted.atom OR present.type = 'object')))
        END""",
}

SQL = {
    "all writes": """
        SELECT namespace, checkpoint_id, task_id, idx, task_path, channel, CAST(value AS BLOB)
        FROM {writes}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)""",
    # A list as JSON: SQLite's limit on variables could be as low as 999.
    "chunks": """
        SELECT id, CAST(data AS BLOB) FROM {chunks}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)
            AND id IN (SELECT value FROM json_each(?))""",
    "keys": "SELECT namespace, id FROM {checkpoints} WHERE execution_id = ?",
    # What belongs to no execution, and so would never be read. A checkpoint without the columns of
    # ours was inserted with SQL, which is fine.
    "strays": """
        SELECT 'a checkpoint is of the unknown execution ' || quote(execution_id)
        FROM {checkpoints} WHERE graph <> '{{}}'
            AND execution_id NOT IN (SELECT execution_id FROM {executions})
        UNION SELECT 'a chunk is of the unknown execution number ' || execution
        FROM {chunks} WHERE execution NOT IN (SELECT number FROM {executions})
        UNION SELECT 'a pending write is of the unknown execution number ' || execution
        FROM {writes} WHERE execution NOT IN (SELECT number FROM {executions})""",
    "old chunks": """
        SELECT id FROM {chunks}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)
            AND epoch < ?""",
    "executions": """
        SELECT execution_id FROM {executions} WHERE execution_id > :after
        ORDER BY execution_id LIMIT :limit""",
    # Not one statement with "OR :before IS NULL": that would look at every id up to the last one.
    "executions before": """
        SELECT execution_id FROM {executions}
        WHERE execution_id > :after AND execution_id < :before
        ORDER BY execution_id LIMIT :limit""",
    "execution": """
        SELECT number, epoch, lease_token, lease_owner, lease_until, lease_ttl FROM {executions}
        WHERE execution_id = ?""",
    "add execution": "INSERT INTO {executions} (execution_id, epoch) VALUES (?, ?)",
    "set epoch": "UPDATE {executions} SET epoch = ? WHERE number = ?",
    "set lease": """
        UPDATE {executions} SET lease_token = ?, lease_owner = ?, lease_until = ?, lease_ttl = ?
        WHERE number = ?""",
    "version of": """
        SELECT version FROM {checkpoints} WHERE id = ? AND execution_id = ? AND namespace = ?""",
    "newest": "SELECT max(id) FROM {checkpoints} WHERE execution_id = ? AND namespace = ?",
    "put checkpoint": """
        INSERT INTO {checkpoints} (execution_id, namespace, id, parent_id, node_name, state,
            metadata, timestamp, version, graph) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id, execution_id, namespace) DO NOTHING""",
    "state of": """
        SELECT CAST(state AS BLOB) FROM {checkpoints}
        WHERE id = :2 AND execution_id = :0 AND namespace = :1""",
    "replace checkpoint": """
        UPDATE {checkpoints} SET parent_id = :3, node_name = :4, state = :5, metadata = :6,
            timestamp = :7, version = :8, graph = :9
        WHERE id = :2 AND execution_id = :0 AND namespace = :1""",
    "put chunk": """
        INSERT INTO {chunks} (execution, id, epoch, data) VALUES (?, ?, ?, ?)
        ON CONFLICT (execution, id) DO UPDATE SET epoch = excluded.epoch
            WHERE epoch < excluded.epoch""",
    "put write": """
        INSERT INTO {writes} (execution, namespace, checkpoint_id, task_id, idx, task_path,
            channel, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (execution, namespace, checkpoint_id, task_id, idx) DO NOTHING""",
    "value of": """
        SELECT CAST(value AS BLOB) FROM {writes} WHERE execution = :0 AND namespace = :1
            AND checkpoint_id = :2 AND task_id = :3 AND idx = :4""",
    "replace write": """
        UPDATE {writes} SET task_path = :5, channel = :6, value = :7 WHERE execution = :0
            AND namespace = :1 AND checkpoint_id = :2 AND task_id = :3 AND idx = :4""",
    "any checkpoint": "SELECT 1 FROM {checkpoints} WHERE execution_id = ? LIMIT 1",
    "any write": "SELECT 1 FROM {writes} WHERE execution = ? LIMIT 1",
    "remove checkpoint": """
        DELETE FROM {checkpoints} WHERE execution_id = ? AND namespace = ? AND id = ?""",
    "remove writes": """
        DELETE FROM {writes} WHERE execution = ? AND namespace = ? AND checkpoint_id = ?""",
    "sweep": """
        DELETE FROM {chunks} WHERE execution = ? AND epoch < ?
            AND id IN (SELECT value FROM json_each(?))""",
    "rewrite chunk": "UPDATE {chunks} SET data = ? WHERE execution = ? AND id = ?",
    "move chunk": """
        UPDATE {chunks} SET data = ? WHERE execution = ? AND id = ? AND data = ?""",
    "rewrite checkpoint": """
        UPDATE {checkpoints} SET state = ?, metadata = ?, graph = ?
        WHERE execution_id = ? AND namespace = ? AND id = ?
            AND state = ? AND metadata = ? AND graph = ?""",
    "rewrite write": """
        UPDATE {writes} SET value = ? WHERE execution = ? AND namespace = ? AND checkpoint_id = ?
            AND task_id = ? AND idx = ? AND value = ?""",
    "clear checkpoints": "DELETE FROM {checkpoints} WHERE execution_id = ?",
    "clear writes": "DELETE FROM {writes} WHERE execution = ?",
    "clear chunks": "DELETE FROM {chunks} WHERE execution = ?",
    "clear execution": "DELETE FROM {executions} WHERE number = ?",
}
