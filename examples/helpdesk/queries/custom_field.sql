-- A saved filter on fields that each customer defines for itself.
SELECT number, subject, status, custom ->> 'channel' AS channel
FROM ticket
WHERE custom @> '{"product": "desktop", "vip": true}'
ORDER BY number DESC
LIMIT 50;
