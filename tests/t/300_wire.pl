# What an event looks like to others on NATS, and that a hop to another region restores it exactly.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Duo;
use PgTide::NatsWire;

my $duo = PgTide::Duo->new;
my $nasty = "a.b *c>\n\r\t%25\"'\\ \x{e9}\x{1F600}\$x";

# What is published: name, payload (JSON), and what else outbox_publish takes.
my @cases = (
	{
		name    => 'plain',
		payload => '{"order_id": "ORD-1", "total": 149.990, "tags": ["a", "b"], "none": null}',
		entity  => 'orders'
	},
	{
		name    => 'traced',
		payload => '{"n": 1}',
		entity  => 'orders',
		op      => 'update',
		key     => 'CUST-42',
		headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",'
		  . ' "tracestate": "a=1,b=2", "tenant": "M\u00fcller & S\u00f6hne 100%", "event_type": "shop.order.changed",'
		  . ' "n": 5, "deep": {"a": [1]}, "bad name": "kept", "Nats-Msg-Id": "mine", "ce-id": "mine", "Tide-Key": "mine"}'
	},
	{
		name    => 'hostile',
		payload => encode_utf8(qq({"\x{e9}\\n\\"": "\x{1F600}\\u0001\\t"})),
		entity  => $nasty,
		op      => "op $nasty",
		key     => "key $nasty",
		headers => '{"x": "a\r\nNats-Msg-Id: forged\r\n\r\nbody", "%41": "%41", "": "empty name", "a:b": "colon"}'
	},
	{
		name    => 'empty key',
		payload => '[]',
		entity  => 'orders',
		key     => '',
		headers => '{"before": "", "middle": "m", "z": ""}'
	},
	{ name => 'scalar', payload => '"just text"', entity => 'orders', op => '>' },
	{ name => 'null payload', payload => 'null', entity => '*', key => '.' },
	{
		name    => 'numbers',
		payload => '{"big": 123456789012345678901234567890.000100, "small": 1E-300, "huge": 1e400, "minus": -0}',
		entity  => '$JS.API.orders'
	},
	{ name => 'long', payload => '{}', entity => 'e' x 60, key => 'k' x 120, op => 'o' x 20 },
);

sub publish
{
	my ($case) = @_;
	my @named = map { defined $case->{$_} ? "$_ => " . PgTide::Duo::literal($case->{$_})
		  . ($_ eq 'headers' ? '::jsonb' : '') : () } qw(headers key op);
	$case->{id} = $duo->sql('us', sprintf 'SELECT tide.outbox_publish(%s)', join ', ',
		q('wire'), PgTide::Duo::literal($case->{entity}), PgTide::Duo::jsonb($case->{payload}), @named);
	return;
}

sub percent_decode
{
	my ($value) = @_;
	$value =~ s/%([0-9A-F]{2})/chr hex $1/ge;
	return $value;
}

# As bytes; undef stays.
sub bytes
{
	my ($text) = @_;
	return defined $text && utf8::is_utf8($text) ? encode_utf8($text) : $text;
}

sub look_at
{
	my ($case, $message) = @_;
	my $name = $case->{name};
	my $h = $message->{headers};
	my %is = map { $_ => percent_decode($h->{$_}) } keys %$h;
	my $op = $case->{op} // 'insert';

	is($message->{first_line}, 'NATS/1.0', "$name: headers are a NATS header block");
	is($message->{body}, $duo->sql('us', "SELECT payload FROM tide.wire_outbox WHERE event_id = '$case->{id}'"),
		"$name: the body is the payload's JSON, byte for byte");
	is($h->{'Nats-Msg-Id'}, $case->{id}, "$name: Nats-Msg-Id is the event id");
	is($h->{'ce-id'}, $case->{id}, '... and so is ce-id');
	is($h->{'ce-specversion'}, '1.0', '... CloudEvents 1.0');
	is($is{'ce-source'}, '/pg_tide/us-east/wire', '... from region and outbox');
	is($h->{'content-type'}, 'application/json', '... content type');
	is($is{'Tide-Origin'}, 'us-east', '... origin');
	is($is{'Tide-Outbox'}, 'wire', '... outbox');
	is($is{'Tide-Entity'}, bytes($case->{entity}), '... entity');
	is($is{'Tide-Op'}, bytes($op), '... op');
	is($is{'Tide-Key'}, defined $case->{key} && $case->{key} eq '' ? '""' : bytes($case->{key}), '... key');
	is($is{'ce-subject'}, length $case->{key} ? bytes($case->{key}) : undef, '... key as ce-subject')
	  if defined $case->{key};
	my ($published, $committed) = map { $duo->sql('us', "SELECT '$h->{$_}'::timestamptz") }
	  qw(Tide-Published-At Tide-Committed-At);
	is($published, $duo->sql('us', "SELECT published_at FROM tide.wire_outbox WHERE event_id = '$case->{id}'"),
		'... publish time, to the microsecond');
	like($h->{'ce-time'}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, '... as RFC 3339');
	is($h->{'ce-time'}, $h->{'Tide-Published-At'}, '... and as ce-time');
	is($duo->sql('us', "SELECT '$committed'::timestamptz >= '$published'::timestamptz"), 't',
		'... commit time is not before it');
	unlike(join('', values %$h), qr/[^\x21-\x7e]/, '... header values are visible ASCII without spaces');
	is((grep { lc eq 'nats-msg-id' } keys %$h), 1, '... and the id is there once');
	return;
}

sub test_published
{
	publish($_) for @cases;
	my %at;
	ok(defined $duo->wait_count('eu', 'arrivals', scalar @cases), 'all events arrive in the other region');
	is($duo->nats->stream_messages('WIRE'), scalar @cases, 'one message an event');
	for my $n (1 .. @cases)
	{
		my $message = PgTide::NatsWire->stored($duo->nats, 'WIRE', $n);
		$at{ $message->{headers}{'ce-id'} } = $message;
	}
	look_at($_, $at{ $_->{id} }) for @cases;
	return \%at;
}

sub test_headers
{
	my ($at) = @_;
	my %case = map { $_->{name} => $_ } @cases;
	my $h = $at->{ $case{traced}{id} }{headers};
	is($h->{traceparent}, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
		'traceparent is a header of its own, as it was given');
	is($h->{tracestate}, 'a=1,b=2', '... tracestate, too');
	is(percent_decode($h->{tenant}), encode_utf8('Müller & Söhne 100%'), '... and others, encoded');
	is($h->{'ce-type'}, 'shop.order.changed', 'event_type gives the CloudEvents type');
	ok(!exists $h->{$_}, "header \"$_\" stays inside") for 'n', 'deep', 'bad name';
	is_deeply(decode_json(percent_decode($h->{'Tide-Headers'})),
		decode_json($duo->sql('us', "SELECT headers FROM tide.wire_outbox WHERE event_id = '$case{traced}{id}'")),
		'... where all of them are');
	is($at->{ $case{plain}{id} }{headers}{'ce-type'}, 'tide.orders.insert', 'ce-type without event_type');
	is($at->{ $case{plain}{id} }{headers}{'Tide-Headers'}, undef, 'no headers, no Tide-Headers');
	$h = $at->{ $case{hostile}{id} }{headers};
	is($h->{x}, 'a%0D%0ANats-Msg-Id:%20forged%0D%0A%0D%0Abody', 'line ends in a value are encoded');
	is($h->{'%41'}, '%2541', 'a percent sign survives');
	$h = $at->{ $case{'empty key'}{id} }{headers};
	is($h->{middle}, 'm', 'headers between empty ones keep their values');
	$h = $at->{ $case{hostile}{id} }{headers};
	is((grep { !/^(ce|tide|nats)-|^content-type$|^x$|^%41$/i } keys %$h), 0, 'names that are no tokens stay inside');
	return;
}

sub test_subjects
{
	my ($at) = @_;
	my %subject = map { $_->{name} => $at->{ $_->{id} }{subject} } @cases;
	is($subject{plain}, 'wire.us-east.orders.insert._', 'an absent key is "_"');
	is($subject{'empty key'}, 'wire.us-east.orders.insert._', '... an empty one, too');
	is($subject{scalar}, 'wire.us-east.orders.%3E._', 'wildcards are encoded');
	is($subject{'null payload'}, 'wire.us-east.%2A.insert.%2E', '... and dots');
	is($subject{numbers}, 'wire.us-east.$JS%2EAPI%2Eorders.insert._', 'no value makes a subject of the broker\'s');
	is((() = $subject{hostile} =~ /\./g), 4, 'hostile values make no more words');
	unlike($subject{hostile}, qr/[\s*>]/, '... and hold nothing that NATS would mistake');
	like($subject{hostile}, qr/\x{e9}\x{1F600}/, '... letters stay letters');
	my $config = $duo->nats->ctl('stream-info', 'WIRE')->{config};
	is_deeply($config->{subjects}, ['wire.us-east.*.*.*'], 'the stream captures what the template can make, no more');
	return;
}

sub test_restored
{
	my $compare = <<~'END';
		SELECT event_id, entity, op, coalesce(key, '<null>') AS key, payload::text AS payload, headers::text AS headers,
			published_at FROM
		END
	my $sent = $duo->sql('us', "$compare tide.wire_outbox ORDER BY event_id");
	is($duo->sql('eu', "$compare tide.arrivals_inbox ORDER BY event_id"), $sent,
		'payload, headers, entity, op, key and publish time are exactly what was published');
	is($duo->sql('eu', q{SELECT count(*) FROM tide.arrivals_inbox WHERE origin = 'us-east' AND outbox = 'wire'
			AND committed_at >= published_at AND received_at >= committed_at}),
		scalar @cases, 'with origin, outbox, and times that follow each other');
	is($duo->sql('eu', q{SELECT count(*) FROM tide.arrivals_inbox WHERE key IS NULL}),
		(grep { !defined $_->{key} } @cases), 'NULL keys are NULL');
	is($duo->sql('us', 'SELECT count(*) FROM tide.dead_letters'), 0, 'nothing was given up');
	return;
}

$duo->sql('us', q{SELECT tide.outbox_create('wire')});
$duo->sql('eu', q{SELECT tide.inbox_create('arrivals')});
$duo->outbox_to_nats('us', 'wire-out', 'wire', stream => 'WIRE',
	subject_template => 'wire.{region}.{entity}.{op}.{key}');
$duo->inbox_from_nats('eu', 'wire-in', 'arrivals', stream => 'WIRE', subject => 'wire.us-east.>');
$duo->start_relays;

my $at = test_published();
test_headers($at);
test_subjects($at);
test_restored();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
