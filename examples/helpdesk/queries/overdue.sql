-- What is open and late, through the view.
SELECT number, subject, requester, organization, assignee, team, due_at
FROM open_ticket
WHERE due_at < now()
ORDER BY priority, due_at
LIMIT 50;
