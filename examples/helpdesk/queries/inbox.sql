-- The twenty tickets that were written to last, of those that wait for us.
SELECT ticket.number, ticket.subject, ticket.status, ticket.priority,
       contact.full_name AS requester, agent.display_name AS assignee, ticket.last_message_at
FROM ticket
JOIN contact ON contact.id = ticket.requester_id
LEFT JOIN agent ON agent.id = ticket.assignee_id
WHERE ticket.status IN ('new', 'open')
ORDER BY ticket.last_message_at DESC
LIMIT 20;
