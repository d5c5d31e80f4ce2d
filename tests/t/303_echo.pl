# An event that originated in a region is never put into that region's inbox, whatever the subjects and links say.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::NatsWire;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new;

sub publish
{
	my ($side, $outbox, $count) = @_;
	$duo->sql($side, "SELECT count(tide.outbox_publish('$outbox', 'order', jsonb_build_object('n', n)))"
		  . " FROM generate_series(1, $count) n");
	return;
}

# Origins in an inbox with their counts.
sub origins
{
	my ($side, $inbox) = @_;
	return $duo->sql($side,
		"SELECT string_agg(o || ' ' || n, ', ' ORDER BY o) FROM (SELECT coalesce(origin, 'none') AS o, count(*) AS n"
		  . " FROM tide.${inbox}_inbox GROUP BY 1) s");
}

sub echoes
{
	my ($side, $pipeline) = @_;
	return $duo->relay($side)->metric('pg_tide_events_echoed_total', qr/"$pipeline"/);
}

# One stream for both regions, and everybody reads all of it.
sub test_wide_subjects
{
	for my $side (qw(us eu))
	{
		$duo->sql($side, q{SELECT tide.outbox_create('orders'), tide.inbox_create('orders')});
		$duo->outbox_to_nats($side, 'orders-out', 'orders', stream => 'ALL', subject_template => 'all.{region}.{op}');
		$duo->inbox_from_nats($side, 'orders-in', 'orders', stream => 'ALL', subject => '>', durable_name => $side);
	}
	$duo->start_relays;
	publish('us', 'orders', 50);
	publish('eu', 'orders', 70);
	ok(defined $duo->wait_value('us', q{SELECT count(*) FROM tide.orders_inbox WHERE origin = 'eu-west'}, 70),
		'wide subjects: us gets what eu published');
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.orders_inbox WHERE origin = 'us-east'}, 50),
		'... and eu what us published');
	# All 120 were read by both: what is not there was left out, not late.
	for my $case ([ 'us', 50, 'eu-west 70' ], [ 'eu', 70, 'us-east 50' ])
	{
		my ($side, $own, $others) = @$case;
		ok(defined wait_until(sub { (echoes($side, 'orders-in') // 0) == $own }, 20, "$own echoes"),
			"... $side saw its own $own and dropped them");
		is(origins($side, 'orders'), $others, '... only the others\' are in its inbox');
		is($duo->relay($side)->metric('pg_tide_events_deduplicated_total', qr/"orders-in"/), 0,
			'... and none is counted as a duplicate');
	}
	return;
}

# Somebody republishes what came: the same message under the other region's subject.
sub test_loop
{
	my $wire = PgTide::NatsWire->new;
	for my $seq (1 .. $duo->nats->stream_messages('ALL'))
	{
		my $message = PgTide::NatsWire->stored($duo->nats, 'ALL', $seq);
		my $region = $message->{headers}{'Tide-Origin'} eq 'us-east' ? 'eu-west' : 'us-east';
		delete $message->{headers}{$_} for 'Nats-Msg-Id', 'Nats-Expected-Stream';
		$wire->store("all.$region.looped", $message->{body},
			headers => [ map { [ $_, $message->{headers}{$_} ] } sort keys %{ $message->{headers} } ]);
	}
	publish($_, 'orders', 1) for qw(us eu);
	ok(defined $duo->wait_count('us', 'orders', 71), 'a loop: what was published afterwards arrives');
	ok(defined $duo->wait_count('eu', 'orders', 51), '... in both regions');
	is(origins('us', 'orders'), 'eu-west 71', '... nothing of its own came back to us');
	is(origins('eu', 'orders'), 'us-east 51', '... nor to eu');
	is(echoes('us', 'orders-in'), 50 * 2 + 1, '... though all of it was read');

	$wire->store('all.eu-west.forged', '{"forged": true}', headers => [
			[ 'ce-id', 'forged-1' ], [ 'Tide-Origin', 'us-east' ], [ 'Tide-Entity', 'e' ], [ 'Tide-Op', 'o' ] ]);
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.orders_inbox WHERE event_id = 'forged-1'}, 1),
		'a message that says it is from us-east goes to eu');
	$wire->store('all.eu-west.forged', '{"end": true}');
	ok(defined $duo->wait_value('us', q{SELECT count(*) FROM tide.orders_inbox WHERE payload ? 'end'}, 1), '... and us');
	is($duo->count('us', 'orders', q{event_id = 'forged-1'}), 0, '... does not take it for its own');
	return;
}

# A pipeline into its own database.
sub test_itself
{
	$duo->sql('us', q{SELECT tide.outbox_create('selfish', '1 second'), tide.inbox_create('selfish')});
	$duo->direct('us', 'selfish', 'selfish', 'us', 'selfish');
	publish('us', 'selfish', 30);
	ok(defined wait_until(sub { (echoes('us', 'selfish') // 0) == 30 }, 20, '30 echoes'),
		'direct to itself: all events are dropped');
	is($duo->count('us', 'selfish'), 0, '... none is stored');
	is($duo->relay('us')->metric('pg_tide_events_delivered_total', qr/"selfish"/), 0, '... or counted as delivered');
	ok(defined $duo->wait_value('us', 'SELECT count(*) FROM tide.selfish_outbox', 0, 30),
		'... and the outbox is emptied all the same');
	is($duo->sql('us', q{SELECT state FROM tide.pipelines WHERE name = 'selfish'}), 'running', '... the pipeline runs');
	return;
}

# A region that was never named knows its own events, too.
sub test_unnamed
{
	$duo->make_region('nameless');
	$duo->sql('nameless', q{SELECT tide.outbox_create('orders'), tide.inbox_create('orders')});
	$duo->direct('nameless', 'back', 'orders', 'nameless', 'orders');
	$duo->direct('nameless', 'forth', 'orders', 'eu', 'nameless');
	$duo->sql('eu', q{SELECT tide.inbox_create('nameless')});
	$duo->start_relay('nameless');
	publish('nameless', 'orders', 10);
	ok(defined $duo->wait_count('eu', 'nameless', 10), 'a region without a name: its events arrive elsewhere');
	ok(defined wait_until(sub { (echoes('nameless', 'back') // 0) == 10 }, 20, '10 echoes'), '... not at home');
	is($duo->count('nameless', 'orders'), 0, '... none');
	return;
}

test_wide_subjects();
test_loop();
test_itself();
test_unnamed();
is_deeply($duo->stop_relays, { us => 0, eu => 0, nameless => 0 }, 'the relays end with status 0');
done_testing();
