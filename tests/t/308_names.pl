# Names through the whole chain: as long and as odd as they may be, and those that are refused.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use Test::More;

use PgTide::Duo;

my $duo = PgTide::Duo->new;

# [outbox, inbox, pipeline], all allowed.
my @names = (
	[ 'o' x 63, 'i' x 63, 'p' x 63 ],
	[ 'O-' . 'x' x 61, 'I-' . 'y' x 61, 'P-' . 'z' x 61 ],
	[ 'a--b', 'c--d', 'e--f' ],
	[ '-', '--', '---' ],
	[ '1', '2', '3' ],
	[ 'select', 'table', 'user' ],
	[ 'Mixed_Case-1', 'MIXED_CASE-1', 'mixed_case-1' ],
	[ 'pg_tide', 'tide', 'pg_catalog' ]);

my %wrong = (
	'a double quote'      => 'a"b',
	'a single quote'      => "a'b",
	'a backslash'         => 'a\\b',
	'a semicolon'         => 'a; DROP SCHEMA tide CASCADE',
	'a dot'               => 'a.b',
	'a space'             => 'a b',
	'a line end'          => "a\nb",
	'a line end at the end' => "a\n",
	'a letter with a mark' => 'é',
	'a letter that only looks like one' => "\x{430}bc",
	'a wide character'    => "\x{1F600}",
	'a dollar sign'       => 'a$b',
	'a wildcard'          => 'a*',
	'a greater-than sign' => '>',
	'a percent sign'      => 'a%s',
	'a colon'             => 'handler:x',
	'a slash'             => '../x',
	'64 bytes'            => 'x' x 64,
	'nothing'             => '');

sub test_allowed
{
	for my $set (@names)
	{
		my ($outbox, $inbox, $pipeline) = @$set;
		$duo->sql('us', "SELECT tide.outbox_create('$outbox')");
		$duo->sql('eu', "SELECT tide.inbox_create('$inbox')");
		$duo->outbox_to_nats('us', $pipeline, $outbox, stream => 'NAMES');
		$duo->inbox_from_nats('eu', $pipeline, $inbox, stream => 'NAMES', subject => "$outbox.insert");
		$duo->sql('eu', qq{SELECT tide.inbox_set_handler('$inbox', 'handle(jsonb)')});
		$duo->sql('us', qq{SELECT tide.outbox_publish('$outbox', 'e', '{"to": "$inbox"}')});
	}
	for my $set (@names)
	{
		my ($outbox, $inbox, $pipeline) = @$set;
		my $relation = PgTide::Duo::ident(substr "${inbox}_inbox", 0, 63);
		my $short = length $outbox > 20 ? substr($outbox, 0, 10) . '... (63)' : $outbox;
		ok(defined $duo->wait_value('eu', "SELECT count(*) FROM tide.$relation WHERE processed_at IS NOT NULL", 1),
			"\"$short\": an event goes from outbox to handler");
		is($duo->sql('eu', "SELECT outbox, payload ->> 'to' FROM tide.$relation"), "$outbox|$inbox", '... the right one');
		my $view = length "${outbox}_outbox" <= 63 ? "${outbox}_outbox"
		  : 'outbox_' . $duo->sql('us', "SELECT id FROM tide.outbox WHERE name = '$outbox'") . '_events';
		is($duo->sql('us', 'SELECT count(*) FROM tide.' . PgTide::Duo::ident($view)), 1,
			'... the outbox shows it, too');
		is($duo->sql('us', "SELECT state FROM tide.pipelines WHERE name = '$pipeline'"), 'running', '... the pipeline runs');
		is($duo->relay('us')->metric('pg_tide_events_delivered_total', qr/pipeline="$pipeline"/), 1, '... with its name in the metrics');
	}
	my ($families) = $duo->relay('us')->get('/metrics');
	is($families, 200, 'metrics are served with all of them');
	my $out = `$ENV{TIDE_TOP}/build/pg_tide status -d "${\$duo->conninfo('us')}" --json`;
	is($? >> 8, 0, 'status shows them');
	is(scalar @{ JSON::PP::decode_json($out)->{pipelines} }, scalar @names, '... all');
	return;
}

sub test_refused
{
	for my $what (sort keys %wrong)
	{
		my $name = PgTide::Duo::literal(utf8::is_utf8($wrong{$what}) ? encode_utf8($wrong{$what}) : $wrong{$what});
		for my $call ([ 'outbox', "tide.outbox_create($name)" ], [ 'inbox', "tide.inbox_create($name)" ],
			[ 'pipeline', "tide.relay_set_outbox($name, '1', '{\"sink_type\": \"stdout\"}')" ],
			[ 'region', "tide.region_init($name)" ])
		{
			my $err = $duo->error_of($call->[0] eq 'region' ? 'nameless' : 'us', "SELECT $call->[1]");
			like($err, qr/ERROR:  42602: /, "$what in the name of an $call->[0]: refused") or diag($err);
			like($err, qr/^HINT:  .*letters.*63 bytes/m, '... and what would do');
		}
	}
	for my $call ('outbox_create(NULL)', 'inbox_create(NULL)', 'region_init(NULL)', q{relay_set_outbox(NULL, '1', '{}')})
	{
		like($duo->error_of('nameless', "SELECT tide.$call"), qr/ERROR:  (22004|42704)/, "$call: refused");
	}
	is($duo->sql('us', 'SELECT count(*) FROM tide.outbox'), scalar @names, 'nothing of it was created');
	return;
}

# Names that are cut to the same relation.
sub test_clash
{
	$duo->sql('us', "SELECT tide.inbox_create('clash')");
	my $long = 'l' x 63;
	is($duo->error_of('us', "SELECT tide.outbox_create('$long'), tide.inbox_create('$long')"), '', 'an outbox and an inbox of one long name');
	is($duo->error_of('us', "SELECT tide.outbox_create('" . 'l' x 62 . "')"), '', 'one letter less is another relation');
	my $cut = 'm' x 60;
	$duo->sql('us', "SELECT tide.inbox_create('$cut')");
	my $err = $duo->error_of('us', "SELECT tide.inbox_create('${cut}_in')");
	like($err, qr/ERROR:  42P07: .*already exists/, 'an inbox whose relation is taken');
	like($err, qr/^HINT:  .*63 bytes/m, '... and the hint says why');
	for my $twice (q{outbox_create('1')}, q{inbox_create('clash')})
	{
		like($duo->error_of('us', "SELECT tide.$twice"), qr/ERROR:  42710: .*already exists.*^HINT: /ms, "$twice again");
	}
	return;
}

# A database and a role that were named by somebody in a bad mood.
sub test_hostile_database
{
	my $name = encode_utf8(q{we"ird' db\ -- = é});
	my $role = encode_utf8(q{ro"le' \ -- = é});
	$duo->make_region($name, 'odd-region');
	$duo->sql($name, 'CREATE ROLE ' . PgTide::Duo::ident($role) . ' LOGIN IN ROLE tide_relay');
	$duo->sql($name, q{SELECT tide.outbox_create('odd'), tide.inbox_create('odd')});
	$duo->sql('eu', q{SELECT tide.inbox_create('from-odd'), tide.outbox_create('to-odd')});
	$duo->direct($name, 'out', 'odd', 'eu', 'from-odd');
	$duo->sql('eu', sprintf q{SELECT tide.relay_set_outbox('to-odd', 'to-odd', %s)}, PgTide::Duo::jsonb(JSON::PP::encode_json(
			{ sink_type => 'inbox', inbox => 'odd', conninfo => Encode::decode_utf8($duo->conninfo($name, user => $role)) })));
	$duo->start_relay('odd', conninfo => $duo->conninfo($name, user => $role));
	$duo->sql($name, q{SELECT tide.outbox_publish('odd', 'e', '{}')});
	$duo->sql('eu', q{SELECT tide.outbox_publish('to-odd', 'e', '{}')});
	ok(defined $duo->wait_count('eu', 'from-odd', 1), 'a database and a role with odd names: events go out');
	ok(defined $duo->wait_count($name, 'odd', 1), '... and in');
	my $status = $duo->relay('odd')->stop;
	is($status, 0, '... and the relay ends well');
	my $out = `$ENV{TIDE_TOP}/build/pg_tide status -d host=/nowhere 2>&1`;
	is($? >> 8, 4, 'a path that leads nowhere');
	return;
}

$duo->make_region('nameless');
$duo->sql('eu', q{CREATE FUNCTION handle(jsonb) RETURNS void LANGUAGE sql AS ''});
$duo->start_relays;
test_allowed();
test_refused();
test_clash();
test_hostile_database();
is_deeply($duo->stop_relays, { us => 0, eu => 0, odd => 0 }, 'the relays end with status 0');
done_testing();
