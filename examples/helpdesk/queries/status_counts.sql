-- The figures above the inbox.
SELECT status, count(*) AS tickets, count(*) FILTER (WHERE priority = 1) AS urgent, sum(billed_amount) AS billed
FROM ticket
GROUP BY status
ORDER BY status;
