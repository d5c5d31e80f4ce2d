# PgTide::Mesh
#		Two or three regions that replicate rows, each a server of its own with a relay.
#
# Owns: the servers, relays and (transport nats) brokers, set up so that every region knows every
# other; classes, tables and links in all directions; waiting until what one region committed is in
# another; comparing tables of all regions byte for byte.  Does not own: the tables (the test's),
# load (RowLoad.pm), faults (RowKills.pm, Wan.pm).
#
# A side (us, eu, ap) stands for a region wherever Duo.pm takes a database.
package PgTide::Mesh;

use strict;
use warnings;
use parent 'PgTide::Duo';

use Encode qw(encode_utf8);
use Test::More;

use PgTide::Duo;
use PgTide::Nats;
use PgTide::Region;
use PgTide::Relay;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

our %REGION = (us => 'us-east', eu => 'eu-west', ap => 'ap-east');
our %NATS_PORT = (us => 4222, eu => 4223, ap => 4224);

# Logical decoding, and short time limits: what a lost connection holds must be free again soon.
my $CONF = <<'END';
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
wal_sender_timeout = 5s
max_prepared_transactions = 5
END

*ident = \&PgTide::Duo::ident;
*literal = \&PgTide::Duo::literal;
*jsonb = \&PgTide::Duo::jsonb;

# sides: [us, eu] (default) or with ap; transport: direct (default) or nats; wan: behind a PgTide::Wan
# (us and eu only); conf: more of postgresql.conf; know => 0: without region_add; bare => 1: servers
# with nothing in them; leaf_port: by side, where its broker reaches the first one's leaf node port (something
# in front of it).
sub new
{
	my ($class, %args) = @_;
	my $self = bless { sides => [qw(us eu)], transport => 'direct', %args }, $class;
	$self->{wan} = PgTide::Wan->new if $self->{wan};
	$self->_start_brokers if $self->{transport} eq 'nats';
	$self->make_side($_) for $self->sides;
	$self->know_each_other unless $args{bare} || (defined $args{know} && !$args{know});
	return $self;
}

sub sides { return @{ $_[0]{sides} }; }
sub wan { return $_[0]{wan}; }
sub node { return $_[0]{region}{ $_[1] // $_[0]{sides}[0] } // die "no side $_[1]"; }
sub nats { return $_[0]{nats}{ $_[1] }; }

sub others
{
	my ($self, $side) = @_;
	return grep { $_ ne $side } $self->sides;
}

# [to, from] for every pair.
sub ways
{
	my ($self) = @_;
	return map { my $to = $_; map { [ $to, $_ ] } $self->others($to) } $self->sides;
}

sub _netns
{
	my ($self, $side) = @_;
	return $self->{wan} ? $self->{wan}->netns($side) : undef;
}

# The relay's role may stream the WAL, and is nothing more than that and a member of tide_relay.
sub make_side
{
	my ($self, $side) = @_;
	my $node = PgTide::Region->make(
		$side,
		create => !$self->{bare},
		region => $REGION{$side},
		netns  => $self->_netns($side),
		conf   => $CONF . ($self->{conf} // ''));
	$node->safe_psql('postgres', 'ALTER ROLE relay REPLICATION') unless $self->{bare};
	$self->{region}{$side} = $node;
	return $node;
}

sub know_each_other
{
	my ($self) = @_;
	$self->sql($_->[0], sprintf 'SELECT tide.region_add(%s, %s)',
		literal($REGION{ $_->[1] }), literal($self->conninfo($_->[1])))
	  for $self->ways;
	return;
}

# How any relay reaches the database of that side.
sub conninfo
{
	my ($self, $side) = @_;
	my $node = $self->node($side);
	my $host = $self->{wan} ? $PgTide::Wan::ADDRESS{$side} : $node->host;
	return "host=$host port=" . $node->port . ' user=relay dbname=postgres connect_timeout=5';
}

# ---- brokers: one a region with a JetStream domain each, joined as leaf nodes of the first ----

sub nats_url
{
	my ($self, $side) = @_;
	return $self->{wan} ? "nats://nats-$side:4222" : "nats://127.0.0.1:$NATS_PORT{$side}";
}

sub _broker_config
{
	my ($self, $side) = @_;
	my $leaf = $side eq $self->{sides}[0]
	  ? 'listen: "127.0.0.1:7422"'
	  : 'reconnect: 1, remotes: [ { url: "nats-leaf://127.0.0.1:' . ($self->{leaf_port}{$side} // 7422) . '" } ]';
	return <<~"END";
		server_name: "nats-$side"
		listen: "127.0.0.1:$NATS_PORT{$side}"
		jetstream { store_dir: "data", domain: "$REGION{$side}" }
		leafnodes { $leaf }
		END
}

sub _start_brokers
{
	my ($self) = @_;
	if ($self->{wan})
	{
		$self->{nats} = PgTide::Nats->leaf($self->{wan});
	}
	else
	{
		$self->{nats}{$_} = PgTide::Nats->new(
			name   => $_,
			url    => $self->nats_url($_),
			config => $self->_broker_config($_))->start
		  for $self->sides;
	}
	for my $way ($self->ways)
	{
		my ($to, $from) = @$way;
		defined wait_until(
			sub { ($self->nats($to)->ctl_status('--timeout', 1000, '--domain', $REGION{$from}, 'account-info'))[0] == 0 },
			30,
			"the JetStream of $from, seen from $to")
		  or die "the regions' NATS servers did not find each other\n";
	}
	return;
}

# ---- SQL ----

sub sql
{
	my ($self, $side, $sql) = @_;
	return $self->node($side)->safe_psql('postgres', $sql);
}

# In every region.
sub sql_all
{
	my ($self, $sql) = @_;
	$self->sql($_, $sql) for $self->sides;
	return;
}

sub error_of
{
	my ($self, $side, $sql, $role) = @_;
	my $err = '';
	my $status = $self->node($side)->psql('postgres', $sql,
		stderr       => \$err,
		on_error_die => 0,
		extra_params => [ '-v', 'VERBOSITY=verbose', $role ? ('-U', $role) : () ]);
	return $status == 0 ? '' : $err;
}

# ---- set-up ----

# A class in every region.
sub class
{
	my ($self, $name, %options) = @_;
	$self->sql_all(sprintf 'SELECT tide.class_create(%s, %s)', literal($name),
		jsonb({ scope => 'global', %options }));
	return;
}

# A table added in every region; table is SQL text (quoted where it must be).
sub add_table
{
	my ($self, $table, $class, $options) = @_;
	$self->add_table_at($_, $table, $class, $options) for $self->sides;
	return;
}

sub add_table_at
{
	my ($self, $side, $table, $class, $options) = @_;
	return $self->sql($side, sprintf 'SELECT tide.table_add(%s, %s, %s)', literal($table), literal($class),
		jsonb($options // {}));
}

# $to takes rows from $from.
sub link
{
	my ($self, $to, $from, %options) = @_;
	return $self->sql($to, sprintf 'SELECT tide.link_add(%s, %s)', literal($REGION{$from}),
		jsonb({ $self->transport_options($to, $from), %{ $self->{link_options} // {} }, %options }));
}

# With other options, and they are in effect: the relay has begun again and streams.
sub relink
{
	my ($self, $to, $from, %options) = @_;
	my $epoch = sprintf q{SELECT epoch FROM tide.pipeline WHERE name = 'link:' || %s}, literal($REGION{$from});
	my $before = $self->sql($to, $epoch);
	$self->link($to, $from, %options);
	$self->wait_value($to, "SELECT ($epoch) > $before", 't', 30);
	return $self->wait_streaming($to, $from);
}

sub transport_options
{
	my ($self, $to, $from) = @_;
	return (transport => 'direct') if $self->{transport} eq 'direct';
	return (
		transport   => 'nats',
		url         => $self->nats_url($to),
		peer_domain => $REGION{$from},
		peer_url    => $self->nats_url($from));
}

sub unlink
{
	my ($self, $to, $from) = @_;
	return $self->sql($to, sprintf 'SELECT tide.link_remove(%s)', literal($REGION{$from}));
}

sub link_all
{
	my ($self, %options) = @_;
	$self->link(@$_, %options) for $self->ways;
	return;
}

# One row of tide.links as a hash.
sub link_row
{
	my ($self, $to, $from) = @_;
	my $rows = $self->rows($to, sprintf 'SELECT * FROM tide.links WHERE region = %s', literal($REGION{$from}));
	return $rows->[0] // {};
}

# ---- relays ----

sub start_relay
{
	my ($self, $side, %args) = @_;
	my $wait = delete $args{wait};
	delete $self->{relay}{$side} if %args;
	$self->{relay}{$side} //= PgTide::Relay->new(
		name     => $side,
		conninfo => $self->node($side)->relay_conninfo,
		netns    => $self->_netns($side),
		%args);
	return $self->{relay}{$side}->start(defined $wait ? (wait => $wait) : ());
}

sub start_relays
{
	my ($self, %args) = @_;
	$self->start_relay($_, %args) for $self->sides;
	return;
}

# Exit status of each relay; the brokers and the link end, too.
sub stop
{
	my ($self) = @_;
	my $status = $self->stop_relays;
	$_->stop for values %{ $self->{nats} // {} };
	return $status;
}

# ---- waiting ----

# Until that link streams.  Seconds, or undef.
sub wait_streaming
{
	my ($self, $to, $from, $limit) = @_;
	return $self->wait_value($to,
		sprintf('SELECT state FROM tide.links WHERE region = %s', literal($REGION{$from})),
		'streaming', $limit // 60);
}

# Until every table that is added there has its first copy by a link and the link streams.
sub wait_copied
{
	my ($self, $to, $from, $limit) = @_;
	return $self->wait_value($to, sprintf(<<~'END', literal($REGION{$from})), 't', $limit // 60);
		SELECT k.state = 'streaming' AND NOT EXISTS (
			SELECT FROM tide._taken_tables() here (schema_name, table_name)
			WHERE NOT EXISTS (SELECT FROM tide.link l JOIN tide.link_table t ON t.link_id = l.id
				WHERE l.region = k.region AND t.state = 'copied'
					AND (t.schema_name, t.table_name) = (here.schema_name, here.table_name)))
		FROM tide.links k WHERE region = %s
		END
}

# Until everything that is committed at $from now has been applied at $to.  A heartbeat, written
# behind it, is what the link must have passed.  Seconds, or undef.
sub wait_for_catchup
{
	my ($self, $from, $to, $limit) = @_;
	my $lsn = $self->sql($from, 'SELECT tide.rows_heartbeat()');
	my $region = literal($REGION{$from});
	my $took = wait_until(
		# A link that copies everything again has a position from the start.
		sub { $self->sql($to, "SELECT coalesce(position >= '$lsn' AND phase = 'streaming', false) FROM tide.links WHERE region = $region") eq 't' },
		$limit // 60,
		"$to to have what $from has committed, up to $lsn");
	diag(explain($self->link_row($to, $from))) unless defined $took;
	return $took;
}

# One way; an assertion only if it fails.
sub settle_one
{
	my ($self, $from, $to, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	defined $self->wait_for_catchup($from, $to, $limit) or fail("$to has what $from committed");
	return;
}

# All links; one assertion.
sub settle
{
	my ($self, $name, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @late = grep { !defined $self->wait_for_catchup($_->[1], $_->[0], $limit) } $self->ways;
	return is(join(' ', map { "$_->[1]->$_->[0]" } @late), '', $name // 'every region has what the others committed');
}

# ---- comparing ----

# Columns in order of their names, so that their order in the table plays no role.
sub _row_expression
{
	my ($self, $side, $table, $except) = @_;
	my %except = map { $_ => 1 } @{ $except // [] };
	my $columns = $self->json($side, sprintf <<~'END', literal($table));
		SELECT jsonb_agg(attname ORDER BY attname COLLATE "C") FROM pg_attribute
		WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
		END
	my @columns = grep { !$except{$_} } @$columns;
	# ROW() takes at most 1664.
	return 'ROW(' . join(', ', map { ident(encode_utf8($_)) } @columns) . ')::text';
}

sub _fingerprint
{
	my ($self, $side, $table, $row) = @_;
	return $self->sql($side, qq{SELECT count(*), md5(string_agg(h, '' ORDER BY h COLLATE "C")) }
		  . "FROM (SELECT md5($row) AS h FROM $table t) q");
}

sub _show_difference
{
	my ($self, $table, $row, $one, $other) = @_;
	my %count;
	my %of = map { $_ => [ split /\n/, $self->sql($_, "SELECT md5($row) FROM $table t") ] } $one, $other;
	$count{$_}++ for @{ $of{$one} };
	$count{$_}-- for @{ $of{$other} };
	my @only = ([ $one, grep { $count{$_} > 0 } keys %count ], [ $other, grep { $count{$_} < 0 } keys %count ]);
	for my $side (@only)
	{
		my ($name, @hashes) = @$side;
		next unless @hashes;
		my $list = join ', ', map { "'$_'" } @hashes;
		my $shown = $self->sql($name,
			"SELECT left($row, 200) FROM $table t WHERE md5($row) IN ($list) ORDER BY 1 LIMIT 5");
		diag(sprintf "%s: %d rows only in %s, among them:\n%s", $table, scalar @hashes, $name, $shown);
	}
	return;
}

# One assertion: these tables are the same, byte for byte, in every region (or in %args{sides}).
# except: columns that don't count.
sub same_tables
{
	my ($self, $name, $tables, %args) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($first, @rest) = @{ $args{sides} // $self->{sides} };
	my @different;
	for my $table (@$tables)
	{
		my $row = $self->_row_expression($first, $table, $args{except});
		my $wanted = $self->_fingerprint($first, $table, $row);
		for my $side (@rest)
		{
			next if $self->_fingerprint($side, $table, $row) eq $wanted;
			push @different, "$table ($first, $side)";
			$self->_show_difference($table, $row, $first, $side);
		}
	}
	return is(join(', ', @different), '', $name) || $self->show_links;
}

# That nothing stands between regions: no parked change, and no resync other than those meant.
sub nothing_special
{
	my ($self, $name, $resyncs) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %found = map {
		$_ => $self->sql($_,
			'SELECT (SELECT count(*) FROM tide.parked_change), (SELECT coalesce(sum(resyncs), 0) FROM tide.link)')
	} $self->sides;
	my $ok = is_deeply(\%found, { map { $_ => '0|' . ($resyncs // 0) } $self->sides }, $name);
	$self->show_links unless $ok;
	return $ok;
}

# Once in a test: what helps to understand a failure.  False.
sub show_links
{
	my ($self) = @_;
	return 0 if $self->{shown}++;
	for my $side ($self->sides)
	{
		diag("$side: $_") for split /\n/, $self->sql($side, <<~'END');
			SELECT to_jsonb(l) FROM tide.links l;
			SELECT to_jsonb(p) - 'config' FROM tide.pipeline p;
			SELECT to_jsonb(p) - 'relation' - 'change' FROM (SELECT * FROM tide.parked_change ORDER BY id LIMIT 5) p;
			END
	}
	return 0;
}

# Names of the replication slots at a side.
sub slots
{
	my ($self, $side) = @_;
	return $self->sql($side, 'SELECT string_agg(slot_name, \' \' ORDER BY slot_name) FROM pg_replication_slots');
}

1;
