# demo/demo.pl
#		The tutorial between two regions, and the lab of replicated tables, told step by step
#		with what really happened.
#
# Run by demo/run inside a sandbox; uses the tests' library for the servers.
# Times are measured: a row's commit by the publishing server's commit timestamp,
# its arrival by received_at in the other region's inbox (one machine, one clock).

use strict;
use warnings;

# PostgreSQL's test modules take standard output for their log: keep the real one.
my $out;
BEGIN { open $out, '>&', \*STDOUT or die "dup: $!"; }

use PgTide::Pair;
use PgTide::Process;
use PgTide::Relay;
use PgTide::Test qw(wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

$out->autoflush(1);
Test::More->builder->output('/dev/null');

my $FORM = $ENV{DEMO_FORM} // 'leaf';
my $DELAY = $ENV{DEMO_DELAY} // 40;
my %NAME = (us => 'us-east', eu => 'eu-west');
my %OTHER = (us => 'eu', eu => 'us');
my $INBOX = 'tide.replicated_orders_inbox';
my $failed = 0;

sub say_line { print $out @_, "\n"; return; }

sub title
{
	my ($text) = @_;
	return say_line("\n$text");
}

sub verdict
{
	my ($ok, $text) = @_;
	$failed = 1 unless $ok;
	return say_line('   ', $ok ? '' : 'NOT AS PROMISED: ', $text);
}

# Publishes orders as the tutorial's step 4 does, one transaction each.  Returns ms per commit.
sub publish
{
	my ($pair, $side, $from, $to) = @_;
	my $region = $NAME{$side};
	my $sql = '';
	for my $n ($from .. $to)
	{
		my $id = sprintf 'ORD-%s-%03d', uc $side, $n;
		$sql .= <<~"END";
			BEGIN;
			INSERT INTO orders (id, region, customer_id, total) VALUES ('$id', '$region', 'CUST-42', $n.99);
			SELECT tide.outbox_publish('order_events', 'orders', jsonb_build_object(
				'order_id', '$id', 'region', '$region', 'customer_id', 'CUST-42', 'total', $n.99));
			COMMIT;
			END
	}
	my $start = time;
	$pair->{region}{$side}->safe_psql('postgres', $sql);
	return (time - $start) * 1000 / ($to - $from + 1);
}

sub count
{
	my ($pair, $side, $from) = @_;
	return $pair->{region}{$side}->safe_psql('postgres', "SELECT count(*) FROM $from");
}

# Waits until every order of $side is in the other region; seconds, or undef.
sub arrive
{
	my ($pair, $side) = @_;
	my $wanted = count($pair, $side, 'orders');
	return wait_until(sub { count($pair, $OTHER{$side}, $INBOX) >= $wanted },
		$PgTide::Test::HEAL_LIMIT, "$wanted orders of $NAME{$side} in $NAME{$OTHER{$side}}");
}

# order => epoch seconds
sub order_times
{
	my ($node, $sql) = @_;
	return map { split /\|/ } split /\n/, $node->safe_psql('postgres', $sql);
}

# How long orders took from commit in $side to the other region's inbox: (median, slowest) in ms.
sub latency
{
	my ($pair, $side, $first, $last) = @_;
	my $range = sprintf "BETWEEN 'ORD-%s-%03d' AND 'ORD-%s-%03d'", uc $side, $first, uc $side, $last;
	my %commit = order_times($pair->{region}{$side},
		"SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM orders WHERE id $range");
	my %arrival = order_times($pair->{region}{ $OTHER{$side} },
		"SELECT payload->>'order_id', extract(epoch FROM received_at) FROM $INBOX WHERE payload->>'order_id' $range");
	my @ms = sort { $a <=> $b } map { ($arrival{$_} - $commit{$_}) * 1000 } grep { $arrival{$_} } keys %commit;
	return @ms ? ($ms[ @ms / 2 ], $ms[-1]) : (-1, -1);
}

sub show_latency
{
	my ($pair, $first, $last) = @_;
	for my $side (qw(us eu))
	{
		say_line(sprintf '   %s to %s: from commit to the other inbox %.1f ms (median), %.1f ms (slowest)',
			$NAME{$side}, $NAME{ $OTHER{$side} }, latency($pair, $side, $first, $last));
	}
	return;
}

sub introduce
{
	my ($pair) = @_;
	my $postgres = $pair->us->safe_psql('postgres', 'SHOW server_version');
	my ($nats) = `nats-server --version` =~ /v?([\d.]+)/;
	say_line("Two regions, us-east and eu-west, each with PostgreSQL $postgres, pg_tide, its relay, and");
	say_line(
		$FORM eq 'leaf'
		? "nats-server $nats with a JetStream of its own; the two are joined by a leaf node."
		: "nats-server $nats: a hub that has the tutorial's gateway, and a JetStream server behind it.");
	my $why_not = PgTide::Wan->why_no_delay;
	say_line(defined $why_not
		? "The link between them has no delay ($why_not)."
		: "The link between them takes $DELAY ms each way.");
	return;
}

sub tutorial_setup
{
	my ($pair) = @_;
	title('1. The tutorial\'s SQL, unchanged (demo/tutorial-us.sql, demo/tutorial-eu.sql)');
	$pair->tutorial;
	# Not in the tutorial: without it events say db-... as their origin.
	$pair->{region}{$_}->safe_psql('postgres', "SELECT tide.region_init('$PgTide::Pair::REGION{$_}')") for qw(us eu);
	$pair->start_relays;
	for my $side (qw(us eu))
	{
		my $node = $pair->{region}{$side};
		my $running = wait_until(
			sub { $node->safe_psql('postgres', q{SELECT bool_and(state = 'running') FROM tide.pipelines}) eq 't' },
			60, "the pipelines of $NAME{$side} to run");
		verdict(defined $running, "$NAME{$side}: " . $node->safe_psql('postgres',
				q{SELECT string_agg(format('%s is %s', name, state), ', ' ORDER BY name) FROM tide.pipelines}));
	}
	return;
}

sub tutorial_order
{
	my ($pair) = @_;
	title('2. The tutorial\'s order (demo/tutorial-use.sql) in us-east, and its like in eu-west');
	$pair->us->run_file("$ENV{TIDE_TOP}/demo/tutorial-use.sql");
	publish($pair, 'eu', 1, 1);
	for my $side (qw(us eu))
	{
		my $there = $OTHER{$side};
		arrive($pair, $side) // return verdict(0, "it never arrived in $NAME{$there}");
		say_line(sprintf '   in %s %.1f ms after its commit in %s:', $NAME{$there},
			(latency($pair, $side, 1, 1))[0], $NAME{$side});
		say_line('   ', $pair->{region}{$there}->safe_psql('postgres',
				"SELECT format('origin %s, entity %s, op %s, payload %s', origin, entity, op, payload) FROM $INBOX"));
	}
	return;
}

sub both_publish
{
	my ($pair) = @_;
	title('3. Both regions publish 299 more orders');
	publish($pair, 'us', 2, 300);
	publish($pair, 'eu', 2, 300);
	for my $side (qw(us eu))
	{
		verdict(defined arrive($pair, $side), "all orders of $NAME{$side} are in $NAME{$OTHER{$side}}");
	}
	show_latency($pair, 2, 300);
	return;
}

sub partition
{
	my ($pair) = @_;
	title('4. The link is cut (a black hole: packets vanish, nobody is told); both publish 300 more');
	my %before = map { $_ => count($pair, $_, $INBOX) } qw(us eu);
	$pair->wan->cut;
	my $start = time;
	for my $side (qw(us eu))
	{
		my $ms = publish($pair, $side, 301, 600);
		my $nats = $pair->nats($side);
		my $queued = wait_until(sub { ($nats->stream_messages('ORDERS') // 0) >= 900 }, 30,
			"$NAME{$side} to queue");
		verdict(defined $queued,
			sprintf '%s goes on by itself: %.1f ms a transaction, and its own stream has them all', $NAME{$side}, $ms);
	}
	sleep 0.1 while time - $start < 8;
	for my $side (qw(us eu))
	{
		my $came = count($pair, $side, $INBOX) - $before{$side};
		verdict($came == 0, sprintf 'after %.0f s, %d of them have come to %s', time - $start, $came, $NAME{$side});
	}
	return;
}

sub heal
{
	my ($pair) = @_;
	title('5. The link is back');
	my $start = time;
	$pair->wan->heal;
	for my $side (qw(us eu))
	{
		my $arrived = arrive($pair, $side);
		verdict(defined $arrived, sprintf 'all orders of %s are in %s, %.1f s after the link came back',
			$NAME{$side}, $NAME{ $OTHER{$side} }, time - $start);
	}
	return;
}

# Compares orders with the other inbox, one by one.
sub balance
{
	my ($pair) = @_;
	title('6. The balance');
	say_line(sprintf '   %-20s %10s %10s %10s %10s', 'from, to', 'committed', 'arrived', 'missing', 'twice');
	for my $side (qw(us eu))
	{
		my ($from, $to) = ($pair->{region}{$side}, $pair->{region}{ $OTHER{$side} });
		my @orders = split /\n/, $from->safe_psql('postgres', 'SELECT id FROM orders');
		my %got;
		$got{$_}++ for split /\n/, $to->safe_psql('postgres', "SELECT payload->>'order_id' FROM $INBOX");
		my $missing = grep { !$got{$_} } @orders;
		my $twice = grep { $_ > 1 } values %got;
		my $arrived = 0;
		$arrived += $_ for values %got;
		say_line(sprintf '   %-20s %10d %10d %10d %10d', "$NAME{$side}, $NAME{$OTHER{$side}}",
			scalar @orders, $arrived, $missing, $twice);
		$failed = 1 if $missing || $twice || $arrived != @orders;
	}
	verdict(!$failed, $failed ? 'see above' : 'every order arrived exactly once');
	return;
}

# ---- the lab: rows ----

# SQL in the lab's database of a region.
sub lab_sql
{
	my ($pair, $side, $sql) = @_;
	return $pair->{region}{$side}->safe_psql('lab', $sql);
}

# Rows of a query, each as a line of the demo.
sub lab_show
{
	my ($pair, $side, $sql) = @_;
	say_line("   $NAME{$side}: $_") for split /\n/, lab_sql($pair, $side, $sql);
	return;
}

# The lab has a database of its own on each server, and one relay, in eu-west: it takes what it wants.
sub lab_setup
{
	my ($pair) = @_;
	for my $side (qw(us eu))
	{
		$pair->{region}{$side}->safe_psql('postgres', 'CREATE DATABASE lab');
		$pair->{region}{$side}->run_file("$ENV{TIDE_TOP}/demo/lab-$side.sql", 'lab');
	}
	my ($us, $eu) = ($pair->us, $pair->eu);
	my $relay = PgTide::Relay->new(
		name     => 'lab',
		conninfo => sprintf('host=%s port=%s user=replicator dbname=lab', $eu->host, $eu->port),
		netns    => $pair->wan->netns('eu'),
		env      => { US_EAST => sprintf('host=%s port=%s user=replicator dbname=lab', $PgTide::Wan::ADDRESS{us}, $us->port) });
	$pair->{relay}{lab} = $relay;
	$relay->start;
	return $relay;
}

sub lab_copy
{
	my ($pair) = @_;
	title('7. Rows: the lab\'s tables (demo/lab-us.sql, demo/lab-eu.sql), from us-east to eu-west');
	lab_setup($pair);
	my $copied = wait_until(
		sub { lab_sql($pair, 'eu', q{SELECT count(*) FROM tide.links WHERE state = 'streaming'}) == 1
				&& lab_sql($pair, 'eu', 'SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM orders)') == 6 },
		60, 'the first copy');
	verdict(defined $copied, defined $copied
		? sprintf('eu-west has its first copy of users and orders %.1f s after its relay was started', $copied)
		: 'the first copy did not end: ' . lab_sql($pair, 'eu', 'SELECT last_error FROM tide.pipelines'));
	lab_show($pair, 'eu', q{SELECT COUNT(*) || ' users' FROM users});
	return;
}

sub lab_write
{
	my ($pair) = @_;
	title('8. us-east writes (demo/lab-use.sql)');
	$pair->us->run_file("$ENV{TIDE_TOP}/demo/lab-use.sql", 'lab');
	my $took = wait_until(
		sub { lab_sql($pair, 'eu', q{SELECT (SELECT count(*) FROM users WHERE name = 'Dave Park')
				+ (SELECT count(*) FROM orders WHERE id = 1 AND status = 'shipped')}) == 2 },
		30, 'Dave Park and the shipped order in eu-west');
	verdict(defined $took, defined $took
		? sprintf('Dave Park and the shipped order were seen in eu-west %.0f ms later', $took * 1000)
		: 'they did not come');
	lab_show($pair, 'eu', 'SELECT id, email, name FROM users ORDER BY id');
	lab_show($pair, 'eu', 'SELECT id, status FROM orders ORDER BY id');
	my %sum = map { $_ => lab_sql($pair, $_, q{SELECT md5((SELECT string_agg(u::text, ';' ORDER BY id) FROM users u)
			|| (SELECT string_agg(o::text, ';' ORDER BY id) FROM orders o))}) } qw(us eu);
	verdict($sum{us} eq $sum{eu}, 'both regions have the same rows, to the last byte');
	return;
}

sub lab_look
{
	my ($pair) = @_;
	title('9. What the lab looks at: slot and lag');
	lab_show($pair, 'us', <<~'END');
		SELECT format('slot %s, active %s, behind %s', slot_name, active,
			pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)))
		FROM pg_replication_slots
		END
	lab_show($pair, 'eu', <<~'END');
		SELECT format('link from %s by %s, %s, at %s', region, transport, state, position) FROM tide.links
		END
	lab_show($pair, 'eu', q{SELECT format('class %s: %s s late', class, round(seconds::numeric, 2)) FROM tide.lag});
	my $relay = $pair->{relay}{lab};
	my @doctor = PgTide::Process::in_netns($relay->{netns}, "$ENV{TIDE_TOP}/build/pg_tide", 'doctor', '-d', $relay->{command}[3]);
	local $ENV{US_EAST} = $relay->{env}{US_EAST};
	open my $pipe, '-|', @doctor or die "$doctor[0]: $!";
	my @lines = <$pipe>;
	close $pipe;
	verdict($? == 0, $? == 0 ? 'pg_tide doctor has nothing to say' : join('   ', grep { /^(?:warn|error)/ } @lines));
	return;
}

# Leaves everything running until demo/stop asks for the end.
sub keep
{
	my ($pair) = @_;
	my $state = $ENV{DEMO_STATE} // return;
	title('Everything goes on running (DEMO_KEEP=1).');
	for my $side (qw(us eu))
	{
		my $node = $pair->{region}{$side};
		say_line(sprintf '   %s: psql -h %s -p %d -U tide postgres', $NAME{$side}, $node->host, $node->port);
		say_line("            demo/enter $side build/pg_tide status -d '" . $node->relay_conninfo . "'");
		say_line("            demo/enter $side build/tools/natsctl --server nats://nats-$side:4222 stream-info ORDERS");
		my $url = 'http://' . $pair->relay($side)->{http} . '/metrics';
		say_line("            demo/enter $side perl -MHTTP::Tiny -e 'print HTTP::Tiny->new->get(shift)->{content}' $url");
	}
	for my $side (qw(us eu))
	{
		my $node = $pair->{region}{$side};
		say_line(sprintf '   the lab in %s: psql -h %s -p %d -U tide lab', $NAME{$side}, $node->host, $node->port);
	}
	say_line('   stop it: demo/stop');
	open my $status, '>', "$state/status" or die "$state/status: $!";
	print $status "$failed\n";
	close $status;
	sleep 0.2 until -e "$state/stop";
	return;
}

sub main
{
	my $start = time;
	say_line("pg_tide: the tutorial and the lab between two regions ($FORM form)\n");
	die PgTide::Wan->why_not, "\n" if PgTide::Wan->why_not;
	my $pair = PgTide::Pair->new(form => $FORM, create => 0, netns => 1, conf => "wal_level = logical\nmax_wal_senders = 10\n");
	$pair->wan->delay($DELAY) unless defined PgTide::Wan->why_no_delay;
	introduce($pair);
	tutorial_setup($pair);
	tutorial_order($pair);
	both_publish($pair);
	partition($pair);
	heal($pair);
	balance($pair);
	lab_copy($pair);
	lab_write($pair);
	lab_look($pair);
	say_line(sprintf "\nDone in %.0f s.", time - $start);
	keep($pair);
	my $status = $pair->stop;
	verdict(!grep({ $_ != 0 } values %$status), 'the relays finished what was in flight and ended with status 0');
	return;
}

eval { main(); 1 } or do
{
	say_line("demo: $@");
	say_line("logs: $ENV{TIDE_DATA} (relays, NATS), shown here as far as they tell of trouble:");
	system("grep -h 'level=\\(warn\\|error\\)' $ENV{TIDE_DATA}/relay-*.log >&" . fileno($out));
	$failed = 1;
};
exit $failed;
