# Messages that pg_tide did not send: taken into the inbox as sensibly as they can be, or dead-lettered one by one.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Duo;
use PgTide::NatsWire;

my $duo = PgTide::Duo->new;
my $wire;

# subject (default foreign.shop.x), headers, body; wanted: SQL conditions, or dead: the reason's pattern.
my @messages = (
	{
		name   => 'plain JSON',
		body   => '{"n": 1, "text": "a"}',
		wanted => [ q{payload = '{"n": 1, "text": "a"}'}, q{entity = 'foreign'}, q{op = 'message'}, 'key IS NULL',
			'origin IS NULL', q{headers ->> 'nats-subject' = 'foreign.shop.x'}, 'published_at IS NOT NULL',
			q{NOT headers ? 'tide-body'} ]
	},
	{
		name   => 'text',
		body   => "not \"JSON\"\n\xc3\xa9",
		wanted => [ q{payload #>> '{}' = E'not "JSON"\n\xc3\xa9'}, q{headers ->> 'tide-body' = 'text'} ]
	},
	{ name => 'nothing', body => '', wanted => [ q{payload = 'null'}, q{headers ->> 'tide-body' = 'empty'} ] },
	{
		name   => 'bytes',
		body   => join('', map { chr } 0 .. 255),
		wanted => [
			q{headers ->> 'tide-body' = 'base64'},
			q{decode(payload #>> '{}', 'base64') = decode('} . join('', map { sprintf '%02x', $_ } 0 .. 255) . q{', 'hex')} ]
	},
	{ name => 'a zero character', body => '{"a": "\u0000"}', dead => qr/\\u0000|Unicode escape/ },
	{ name => 'half a surrogate', body => '{"a": "\ud800"}', dead => qr/surrogate/ },
	{ name => 'JSON in Latin-1', body => qq({"a": "\xe9"}), wanted => [ q{headers ->> 'tide-body' = 'base64'} ] },
	{
		name   => 'large numbers',
		body   => '{"a": 12345678901234567890123456789012345678901234567890, "b": 1e400, "c": 0.1e-300}',
		wanted => [ q{(payload ->> 'a') = '12345678901234567890123456789012345678901234567890'},
			q{(payload ->> 'b')::numeric = 1e400} ]
	},
	{ name => 'a number beyond all', body => '{"a": 1e999999}', dead => qr/numeric|range|overflow/i },
	{ name => 'deep', body => '[' x 1000 . ']' x 1000, wanted => [ q{payload::text LIKE '[[[%'} ] },
	{ name => 'too deep', body => '[' x 100_000 . ']' x 100_000, dead => qr/stack depth|deep/ },
	{ name => 'almost JSON', body => '{"a": 1,}', wanted => [ q{payload #>> '{}' = '{"a": 1,}'} ] },
	{ name => 'two values', body => '{} {}', wanted => [ q{headers ->> 'tide-body' = 'text'} ] },
	{
		name    => 'a CloudEvent',
		body    => '{"order": 7}',
		headers => [
			[ 'CE-SpecVersion', '1.0' ], [ 'ce-id', 'A-7' ], [ 'Ce-Source', '/shop/till%201' ],
			[ 'ce-type', 'com.shop.order.placed' ], [ 'ce-subject', 'CUST-7' ],
			[ 'ce-time', '2026-01-02T03:04:05.678+01:00' ], [ 'Content-Type', 'application/json' ] ],
		wanted => [ q{event_id = '/shop/till 1 A-7'}, q{entity = 'com.shop.order'}, q{op = 'placed'},
			q{key = 'CUST-7'}, q{published_at = '2026-01-02 02:04:05.678Z'}, 'origin IS NULL' ]
	},
	{
		name    => 'with an id',
		body    => '1',
		headers => [ [ 'Nats-Msg-Id', 'id one' ], [ 'x-tenant', 'acme' ], [ 'x-tenant', 'other' ] ],
		wanted  => [ q{event_id = 'id one'}, q{headers -> 'x-tenant' = '["acme", "other"]'},
			q{NOT headers ? 'Nats-Msg-Id'} ]
	},
	{
		name    => 'a partition key',
		body    => '1',
		headers => [ [ 'ce-partitionkey', 'P' ], [ 'ce-subject', 'S' ], [ 'ce-time', 'yesterday' ] ],
		wanted  => [ q{key = 'P'}, q{abs(extract(epoch FROM published_at - now())) < 300} ]
	},
	{
		name    => 'broken header values',
		body    => '1',
		headers => [ [ 'x-percent', '100%zz' ], [ 'x-latin', "\xe9" ], [ 'x-nul', '%00' ], [ 'x-utf8', "\xc3\xa9" ] ],
		wanted  => [ q{headers ->> 'x-percent' = '100%zz'}, q{headers ->> 'x-latin' = '%E9'},
			q{headers ->> 'x-utf8' = E'\xc3\xa9'}, q{headers ->> 'x-nul' = '%00'} ]
	},
	{
		name    => 'an id that is too long',
		body    => '1',
		headers => [ [ 'Nats-Msg-Id', 'x' x 2000 ] ],
		wanted  => [ q{length(event_id) < 512} ]
	},
	{
		name    => 'half ours',
		body    => '{}',
		headers => [ [ 'Tide-Origin', 'us-east' ], [ 'Tide-Entity', 'orders' ] ],
		wanted  => [ 'origin IS NULL' ]
	},
	{
		name    => 'ours, but broken',
		body    => 'no JSON',
		headers => [
			[ 'ce-id', 'b-1' ], [ 'Tide-Origin', 'us-east' ], [ 'Tide-Entity', 'orders' ], [ 'Tide-Op', 'insert' ] ],
		wanted => [ 'origin IS NULL', q{payload = '"no JSON"'} ]
	},
	{
		name    => 'a time no database has',
		body    => '{}',
		headers => [
			[ 'ce-id', 't-1' ], [ 'Tide-Origin', 'mars' ], [ 'Tide-Entity', 'e' ], [ 'Tide-Op', 'o' ],
			[ 'Tide-Published-At', '9999-12-31T23:59:59Z' ] ],
		wanted => [ q{origin = 'mars'}, q{event_id = 't-1'}, q{published_at = '9999-12-31 23:59:59Z'} ]
	},
	{ name => 'a strange subject', subject => "foreign.\xe9.%2E", body => '{}', wanted => [ q{payload = '{}'} ] },
	{ name => 'the last', body => '{"last": true}', wanted => [ q{payload = '{"last": true}'} ] });

sub publish_all
{
	for my $message (@messages)
	{
		my $answer = $wire->store($message->{subject} // 'foreign.shop.x', $message->{body},
			headers => $message->{headers});
		$message->{seq} = $answer->{seq};
		ok($message->{seq}, "$message->{name}: the stream takes it") or diag(explain($answer));
	}
	return;
}

sub test_taken
{
	my @dead = grep { $_->{dead} } @messages;
	my @taken = grep { $_->{wanted} } @messages;
	ok(defined $duo->wait_count('eu', 'arrivals', scalar @taken), 'all that can be stored is');
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.dead_letters', scalar @dead), 'the others are dead letters');
	my $rows = $duo->rows('eu', 'SELECT * FROM tide.arrivals_inbox ORDER BY seq');
	for my $n (0 .. $#taken)
	{
		my ($message, $row) = ($taken[$n], $rows->[$n]);
		my @held = split /\|/, $duo->sql('eu', sprintf 'SELECT %s FROM tide.arrivals_inbox WHERE seq = %d',
			join(', ', map { "($_) IS TRUE" } @{ $message->{wanted} }), $row->{seq});
		for my $condition (@{ $message->{wanted} })
		{
			is(shift @held, 't', "$message->{name}: " . substr $condition, 0, 80) or diag(explain($row));
		}
	}
	my $letters = $duo->rows('eu', 'SELECT * FROM tide.dead_letters ORDER BY id');
	for my $n (0 .. $#dead)
	{
		my ($message, $letter) = ($dead[$n], $letters->[$n]);
		like($letter->{error}, $message->{dead}, "$message->{name}: the reason");
		is($letter->{payload_raw}, '\x' . unpack('H*', $message->{body}), '... and every byte that came');
		is($letter->{pipeline}, 'foreign-in', '... under the pipeline');
		is($letter->{inbox}, 'arrivals', '... and the inbox');
	}
	return;
}

# A letter that can't be stored stays; one that was given up is gone; one whose obstacle is gone is stored.
sub test_letters
{
	my $id = $duo->sql('eu', 'SELECT min(id) FROM tide.dead_letters');
	my $err = $duo->error_of('eu', "SELECT tide.dead_letter_retry($id)");
	like($err, qr/dead letter $id cannot be stored/, 'what is no JSON for a database stays one, retried');
	like($err, qr/^HINT: .*dead_letter_discard/m, '... and the hint says what is left to do');
	$duo->sql('eu', "SELECT tide.dead_letter_discard($id)");
	is($duo->sql('eu', "SELECT count(*) FROM tide.dead_letters WHERE id = $id"), 0, 'a discarded one is closed');
	$duo->sql('eu', 'SELECT tide.dead_letter_discard(id) FROM tide.dead_letters');

	$duo->sql('eu', q{ALTER TABLE tide.arrivals_inbox ADD CONSTRAINT odd CHECK (payload ->> 'n' <> '13')});
	my $before = $duo->count('eu', 'arrivals');
	$wire->store('foreign.shop.x', qq({"n": $_}), headers => [ [ 'Nats-Msg-Id', "n-$_" ] ]) for 10 .. 16;
	ok(defined $duo->wait_count('eu', 'arrivals', $before + 6), 'one that the table refuses does not stop the others');
	my $letter = $duo->rows('eu', 'SELECT * FROM tide.dead_letters')->[0];
	is($letter->{event_id}, 'n-13', '... and is a dead letter');
	is($letter->{code}, '23514', '... with the server\'s code');
	like($duo->error_of('eu', "SELECT tide.dead_letter_retry($letter->{id})"), qr/23514/, 'retried too early, it fails');
	is($duo->sql('eu', 'SELECT count(*) FROM tide.dead_letters'), 1, '... and is kept');
	$duo->sql('eu', q{ALTER TABLE tide.arrivals_inbox DROP CONSTRAINT odd});
	$duo->sql('eu', "SELECT tide.dead_letter_retry($letter->{id})");
	is($duo->sql('eu', q{SELECT payload FROM tide.arrivals_inbox WHERE event_id = 'n-13'}), '{"n": 13}',
		'retried later, it is really delivered');
	is($duo->sql('eu', 'SELECT count(*) FROM tide.dead_letters'), 0, '... and closed');
	like($duo->error_of('eu', "SELECT tide.dead_letter_retry($letter->{id})"), qr/resolved already/, '... once');
	return;
}

# The broker's own memory is short here; the inbox's is not.
sub test_duplicates
{
	my $before = $duo->count('eu', 'arrivals');
	my $config = $duo->nats->ctl('stream-info', 'FOREIGN')->{config};
	for my $round (1 .. 3)
	{
		my $answer = $wire->store('foreign.shop.x', qq({"round": $round}), headers => [ [ 'Nats-Msg-Id', 'again' ] ]);
		ok(!$answer->{duplicate}, "round $round: the stream has forgotten the id");
		sleep 1;
	}
	$wire->store('foreign.shop.x', '{"end": true}');
	ok(defined $duo->wait_count('eu', 'arrivals', $before + 2), 'the inbox has not');
	is($duo->sql('eu', q{SELECT payload FROM tide.arrivals_inbox WHERE event_id = 'again'}), '{"round": 1}',
		'... and keeps the first');

	# Two that only differ by where they are, and one that the stream refuses by itself.
	$before = $duo->count('eu', 'arrivals');
	$wire->store('foreign.shop.x', '{"same": true}') for 1 .. 2;
	ok(defined $duo->wait_count('eu', 'arrivals', $before + 2), 'messages without ids are never taken for one another');
	ok($wire->store('foreign.shop.x', 'x', headers => [ [ 'Nats-Msg-Id', 'quick' ] ])->{seq}, 'an id')
	  && ok($wire->store('foreign.shop.x', 'y', headers => [ [ 'Nats-Msg-Id', 'quick' ] ])->{duplicate}, '... twice at once');
	return;
}

# The same stream read from its beginning by another consumer: ids are where messages are, not when they were read.
sub test_ids_are_stable
{
	my $before = $duo->count('eu', 'arrivals');
	$duo->nats->ctl('consumer-delete', 'FOREIGN', 'foreign-in');
	$duo->sql('eu', q{SELECT tide.relay_delete('foreign-in')});
	$duo->inbox_from_nats('eu', 'foreign-in', 'arrivals', stream => 'FOREIGN', subject => 'foreign.>');
	$wire->store('foreign.shop.x', '{"after": true}');
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.arrivals_inbox WHERE payload ? 'after'}, 1),
		'read again from the beginning');
	is($duo->count('eu', 'arrivals'), $before + 1, '... nothing is stored twice');
	return;
}

$duo->nats->ctl('stream-create', 'FOREIGN',
	'{"name": "FOREIGN", "subjects": ["foreign.>"], "storage": "file", "duplicate_window": 500000000}');
$duo->sql('eu', q{SELECT tide.inbox_create('arrivals')});
$duo->inbox_from_nats('eu', 'foreign-in', 'arrivals', stream => 'FOREIGN', subject => 'foreign.>');
$duo->start_relay('eu');
$wire = PgTide::NatsWire->new;

publish_all();
test_taken();
test_letters();
test_duplicates();
test_ids_are_stable();
is($duo->nats->ctl('consumer-info', 'FOREIGN', 'foreign-in')->{num_redelivered}, 0, 'nothing had to be delivered again');
is_deeply($duo->stop_relays, { eu => 0 }, 'the relay ends with status 0');
done_testing();
